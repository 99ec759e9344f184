"""Takes a picture of every page, light and dark, on a desktop and on a phone: `make screenshots`, then look at them.

With names of pages, of those alone; with `readme`, those that stand in the documentation, as large as a window.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from developer_portal import people  # noqa: E402
from support import browser as browsers  # noqa: E402
from support import portal as portals  # noqa: E402
from support.portal import Portal  # noqa: E402
from support.process import EdgeProcess, ServeProcess  # noqa: E402

FOLDER, IMAGES = ROOT / "screenshots", ROOT / "docs" / "images"
VIEWS = {"desktop": browsers.DESKTOP, "phone": browsers.PHONE}
OPEN_PAGES = {"landing": "/", "reference": "/docs", "sign-in": "/admin/sign-in"}
README = {
    ("consumers", "desktop"): "light",
    ("consumer", "desktop"): "dark",
    ("edges", "desktop"): "light",
    ("portal-consumer", "phone"): "dark",
}
EDGES = {"frankfurt-1": "eu-central", "virginia-1": "us-east", "singapore-1": "ap-southeast"}


def main(wanted: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as process, browsers.running() as browser:
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


@contextmanager
def served(folder: Path) -> Iterator[ServeProcess]:
    """A service with an edge beside it and some far away."""
    variables = {"KEYWRIGHT_BOOTSTRAP_KEY": portals.ROOT_KEY, "KEYWRIGHT_EDGE_NAME": "origin"}
    with ExitStack() as running:
        process = running.enter_context(ServeProcess(folder / "data", **variables)).wait_until_ready()
        token = Portal(process).new_management_key("Edges", buckets={"*": "validate"}, feed=True)
        for name, region in EDGES.items():
            named = {"KEYWRIGHT_EDGE_NAME": name, "KEYWRIGHT_REGION": region}
            edge = EdgeProcess(folder / name, process.url, token, folder / "data" / "pepper.key", **named)
            running.enter_context(edge).wait_until_ready()
        yield process


def picture(page: browsers.Page, name: str, path: str, view: str, wanted: list[str]) -> None:
    if wanted == ["readme"]:
        if (name, view) in README:
            page.goto(path)
            page.emulate_media(color_scheme=README[name, view])  # type: ignore[arg-type]
            page.screenshot(path=IMAGES / f"{name}.png")
        return
    if wanted and name not in wanted:
        return
    page.goto(path)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.screenshot(path=FOLDER / f"{name}.{view}.{theme}.png", full_page=name != "reference")
    print(f"{name} ({view})")


if __name__ == "__main__":
    main(sys.argv[1:])
