"""The pages "protect an API behind ..." work from top to bottom: their commands are run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateways.gateway import BIN, ROOT
from support.api import ROOT_KEY, VARIABLES, Api
from support.ports import free_port
from support.process import ServeProcess, until

PAGES = ["nginx", "traefik", "caddy", "envoy", "haproxy"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServeProcess, Path, str]]:
    """The service that the pages ask for, in `keywright-data` below a directory, and a key."""
    directory = tmp_path_factory.mktemp("how-to")
    with ServeProcess(directory / "keywright-data", **VARIABLES).wait_until_ready() as running, Api(running) as api:
        api.new_consumer(name="my-consumer")
        yield running, directory, api.new_key("my-consumer")["key"]


def blocks_of(page: str) -> list[str]:
    return re.findall(
        r"```sh\n(.*?)```", (ROOT / f"docs/how-to/protect-an-api-behind-{page}.md").read_text(), re.DOTALL
    )


@pytest.mark.parametrize("page", PAGES)
def test_each_page_from_top_to_bottom(page: str, served: tuple[ServeProcess, Path, str], tmp_path: Path) -> None:
    running, data, key = served
    if shutil.which(page, path=f"{BIN}:{os.environ['PATH']}:/usr/sbin") is None and not os.environ.get("CI"):
        pytest.skip(f"{page} is not installed")
    ports = {"8000": free_port(), "8001": free_port(), "8080": running.port, "8081": free_port(), "9000": free_port()}

    def here(text: str) -> str:
        """What a reader's machine has and this one has elsewhere: ports, and where the command is installed."""
        text = re.sub(r"\b(8000|8001|8080|8081|9000)\b", lambda match: str(ports[match[0]]), text)
        return text.replace(".venv/bin/keywright", str(BIN / "keywright"))

    shutil.copytree(ROOT / "gateways" / page, tmp_path / "gateways" / page)
    for file in (tmp_path / "gateways" / page).iterdir():
        file.write_text(here(file.read_text()))
    (tmp_path / "docs").mkdir()
    (tmp_path / "keywright-data").symlink_to(data / "keywright-data")
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}:/usr/sbin", "HOME": str(tmp_path), "KEY": key, "API_KEY": ROOT_KEY
    }  # fmt: skip
    *starting, asking = blocks_of(page)
    with (tmp_path / "log").open("wb") as log:
        script = here("\n".join(starting)) + "\nwait\n"
        started = subprocess.Popen(
            ["bash", "-ec", script], cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        asked = here(asking).replace("curl -i", "curl -s -o answer -w '%{http_code}\\n'")
        command = ["bash", "-c", asked]

        def statuses() -> list[str]:
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            return done.stdout.split()

        until(lambda: statuses() == ["401", "200"], 60)
        assert "Directory listing" in (tmp_path / "answer").read_text()
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
