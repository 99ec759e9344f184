"""The pages "have ... decide by itself" work from top to bottom: their commands are run as they stand there."""

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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServeProcess, str]]:
    """The service that the pages ask for, and a key."""
    directory = tmp_path_factory.mktemp("how-to")
    with ServeProcess(directory / "keywright-data", **VARIABLES).wait_until_ready() as running, Api(running) as api:
        api.new_consumer(name="my-consumer")
        yield running, api.new_key("my-consumer")["key"]


@pytest.mark.parametrize("page", ["nginx", "envoy"])
def test_each_page_from_top_to_bottom(page: str, served: tuple[ServeProcess, str], tmp_path: Path) -> None:
    running, key = served
    ports = {"8000": free_port(), "8080": running.port, "9000": free_port()}

    def here(text: str) -> str:
        return re.sub(r"\b(8000|8080|9000)\b", lambda match: str(ports[match[0]]), text)

    text = (ROOT / f"docs/how-to/decide-in-{page}.md").read_text()
    *starting, asking = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    shutil.copytree(ROOT / "gateways/lua", tmp_path / "gateways/lua")
    for name in ("nginx.conf", "envoy.yaml"):
        file = tmp_path / "gateways/lua" / name
        file.write_text(here(file.read_text()))
    (tmp_path / "docs").mkdir()
    (tmp_path / "keywright-data").symlink_to(running.data_dir)
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}:/usr/sbin", "HOME": str(tmp_path), "KEY": key, "API_KEY": ROOT_KEY
    }  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        script = here("\n".join(starting)) + "\nwait\n"
        started = subprocess.Popen(
            ["bash", "-ec", script], cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        asked = here(asking).replace("curl -i", "curl -s -o answer -w '%{http_code}\\n'")

        def statuses() -> list[str]:
            done = subprocess.run(
                ["bash", "-c", asked], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            return done.stdout.split()

        until(lambda: statuses() == ["401", "200"], 60)
        assert "Directory listing" in (tmp_path / "answer").read_text()
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
