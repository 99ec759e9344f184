"""The README's five minutes, run as they stand there: every command block, in order, against a first start."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from support.process import ServeProcess

ROOT = Path(__file__).resolve().parents[2]


def blocks_of_the_walk() -> list[str]:
    text = (ROOT / "README.md").read_text()
    walk = text[text.index("## Five minutes") : text.index("## From here")]
    return re.findall(r"```sh\n(.*?)```", walk, re.DOTALL)


def test_every_command_of_the_readme_does_what_it_says(tmp_path: Path) -> None:
    blocks = blocks_of_the_walk()
    assert len(blocks) == 5
    with ServeProcess(tmp_path / "data", from_nothing=True).wait_until_ready() as served:
        names = {"API_KEY": served.printed("API_KEY"), "BUCKET_NAME": served.printed("BUCKET_NAME")}

        def run(block: str, **more: str) -> list[str]:
            # What a reader's machine has and this one has elsewhere: the port, and where the command is installed.
            script = block.replace("http://127.0.0.1:8080", served.url)
            script = script.replace(".venv/bin/keywright", str(Path(sys.executable).with_name("keywright")))
            environment = {"PATH": "/usr/bin:/bin", "KEYWRIGHT_URL": served.url, **names, **more}
            # -w: each answer on a line of its own.
            script = script.replace("curl ", "curl -sS -w '\\n' ")
            done = subprocess.run(["bash", "-ec", script], env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip().splitlines()

        consumer = json.loads(run(blocks[0])[0])
        assert (consumer["name"], consumer["metadata"]) == ("my-consumer", {"testId": "1234"})

        key = json.loads(run(blocks[1])[0])
        assert key["description"] == "My first API Key"

        asked = blocks[2].replace("kwak_...", key["key"])
        (verdict,) = run(asked)
        assert verdict.startswith('{"valid":true,"code":"VALID","user":{"sub":"my-consumer","data":{"testId":"1234"}}')

        rolled, refused = run(blocks[3], KEY=key["key"])
        assert json.loads(rolled)["key"] != key["key"]
        assert refused == '{"valid":false,"code":"EXPIRED"}'

        printed = "\n".join(run(blocks[4]))
        assert "my-consumer" in printed
        assert "My second API Key" in printed
