"""Pages that protect an app, or charge, from top to bottom: files, commands in one shell, and what these print."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.api import BUCKET, ROOT_KEY
from support.origin import Origin
from support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted((ROOT / "docs/how-to").glob("protect-a*-app.md")),
    ROOT / "docs/how-to/charge-for-what-was-used.md",
    ROOT / "examples/fastapi-app/README.md",
    ROOT / "examples/websockets/README.md",
]
_PART = re.compile(r"```(python|sh)\n(.*?)```|((?:^    [^\n]*\n)+)", re.DOTALL | re.MULTILINE)
_SERVER = re.compile(r"\.venv/bin/(granian|gunicorn|python) ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_a_page_does_what_it_says_from_top_to_bottom(page: Path, origin: Origin, tmp_path: Path) -> None:
    # What a reader has in the checkout's directory.
    (tmp_path / "keywright-data").symlink_to(origin.data_dir)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    text = page.read_text()
    ports = {port: str(free_port()) for port in sorted(set(re.findall(r"127\.0\.0\.1:(90\d\d)", text)))}
    # Each page makes consumers of its own.
    names = {name: f"{name}-{PAGES.index(page)}" for name in ("acme", "basic")}

    def localised(part: str) -> str:
        for port, mine in ports.items():
            part = part.replace(port, mine)
        for name, mine in names.items():
            part = re.sub(rf"\b{name}\b", mine, part)
        return part

    script, printed, files = [], [], {}
    for language, block, output in _PART.findall(text):
        if language == "python":
            name = block.split("\n", 1)[0].removeprefix("# ")
            files[name] = localised(block)
            (tmp_path / name).write_text(files[name])
        elif _SERVER.match(block):
            # An app that is its own server says in its file where.
            told = localised(block) + "".join(files.get(word, "") for word in block.split())
            port = next(mine for mine in ports.values() if mine in told)
            script.append(f"{localised(block).strip()} >>server.log 2>&1 &")
            script.append(f"until (echo > /dev/tcp/127.0.0.1/{port}) 2>/dev/null; do kill -0 $!; sleep 0.1; done")
        elif language:
            script.append(localised(block).replace("curl ", "curl -sS -w '\\n' "))
        else:
            printed.append([line[4:] for line in localised(output).splitlines()])
    assert printed
    environment = {
        "PATH": f"{tmp_path}/.venv/bin:/usr/bin:/bin",
        "API_KEY": ROOT_KEY,
        "BUCKET_NAME": BUCKET,
        "KEYWRIGHT_URL": origin.url,
        "KEYWRIGHT_DATA_DIR": str(origin.data_dir),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    whole = "\n".join(["set -e", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT", *script])
    with (tmp_path / "output").open("w+") as output_file:
        done = subprocess.run(
            ["bash", "-c", whole], cwd=tmp_path, env=environment, stdout=output_file, stderr=subprocess.STDOUT,
            check=False, timeout=240,
        )  # fmt: skip
    log = tmp_path / "server.log"
    told = (tmp_path / "output").read_text() + (log.read_text() if log.exists() else "")
    # 143: the servers were told to end, and the shell with them.
    assert done.returncode in (0, 143), told
    lines = [line for line in (tmp_path / "output").read_text().splitlines() if line]
    for expected in printed:
        start = next((at for at, line in enumerate(lines) if _is_as_said(line, expected[0])), 0)
        found = lines[start : start + len(expected)]
        assert len(found) == len(expected), told
        assert all(map(_is_as_said, found, expected)), told
    if page.stem == "protect-a-fastapi-app":
        assert '"detail":"The key has expired."' in lines[-1]


def _is_as_said(line: str, said: str) -> bool:
    return line.startswith(said.removesuffix("...")) if said.endswith("...") else line == said
