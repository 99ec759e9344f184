"""Takes a picture of every page, light and dark, on a desktop and on a phone: `make screenshots`, then look at them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from developer_portal import people  # noqa: E402
from support import browser as browsers  # noqa: E402
from support import portal as portals  # noqa: E402
from support.portal import Portal  # noqa: E402
from support.process import ServeProcess  # noqa: E402

FOLDER = ROOT / "screenshots"
VIEWS = {"desktop": browsers.DESKTOP, "phone": browsers.PHONE}
OPEN_PAGES = {"landing": "/", "reference": "/docs", "sign-in": "/admin/sign-in"}


def main(wanted: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        ServeProcess(Path(folder) / "data", KEYWRIGHT_BOOTSTRAP_KEY=portals.ROOT_KEY) as process,
        browsers.running() as browser,
    ):
        process.wait_until_ready()
        pages = {**OPEN_PAGES, **portals.fill(Portal(process))}
        for view, viewport in VIEWS.items():
            with browsers.watched(browser, process.url, viewport=viewport) as (_, page):
                for name in OPEN_PAGES:
                    picture(page, name, pages[name], view, wanted)
                portals.sign_in(page)
                for name in pages.keys() - OPEN_PAGES.keys():
                    picture(page, name, pages[name], view, wanted)
            with people.opened(process, portals.ROOT_KEY, browser) as portal:
                page, found = portal.guided_tour(viewport)
                for name, path in found.items():
                    picture(page, f"portal-{name}", path, view, wanted)


def picture(page: browsers.Page, name: str, path: str, view: str, wanted: list[str]) -> None:
    if wanted and name not in wanted:
        return
    page.goto(path)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.screenshot(path=FOLDER / f"{name}.{view}.{theme}.png", full_page=name != "reference")
    print(f"{name} ({view})")


if __name__ == "__main__":
    main(sys.argv[1:])
