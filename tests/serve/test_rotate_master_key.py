"""A new master key beside running traffic: no request fails, and every key can be shown before, while and after."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keywright.serve import first_start
from support.api import ACCOUNT_URL, CONSUMERS_URL, VARIABLES, Api
from support.postgres import Postgres
from support.process import COMMAND, ServeProcess, run_command, until
from support.service import Service


def rotate(data: Path, *arguments: str) -> str:
    done = run_command("rotate-master-key", "--data-dir", str(data), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def count_keys(data: Path) -> int:
    return len((data / "master.key").read_text().split())


class Traffic:
    """Makes consumers, keys and buckets and shows keys again, until told to stop; every failure is remembered."""

    def __init__(self, served: ServeProcess) -> None:
        self.served = served
        self.stopped = threading.Event()
        self.made: dict[str, str] = {}
        self.failures: list[str] = []

    def go_on(self) -> None:
        """Return when a few more keys have been made and shown."""
        before = len(self.made)
        until(lambda: len(self.made) >= before + 4, 60)

    def run(self, number: int) -> None:
        api = Api(self.served)
        consumer = api.new_consumer()["name"]
        urls = [f"{CONSUMERS_URL}/{consumer}/keys"]
        turn = 0
        # As fast as it can, and no more than can be shown again in a moment however long a rotation takes.
        while not self.stopped.wait(0.05 if turn > 20 else 0):
            turn += 1
            if turn % 5 == 1:
                name = f"bucket-{number}-{turn}"
                api.call("POST", f"{ACCOUNT_URL}/key-buckets", json={"name": name})
                consumers = f"{ACCOUNT_URL}/key-buckets/{name}/consumers"
                api.call("POST", consumers, json={"name": "acme"})
                urls.append(f"{consumers}/acme/keys")
            url = urls[turn % len(urls)]
            response = api.post(url, json={})
            if response.status_code != 200:
                self.failures.append(response.text)
                continue
            self.made[f"{url}/{response.json()['id']}"] = response.json()["key"]
            shown = api.get(f"{url}?key-format=visible")
            if shown.status_code != 200 or response.json()["key"] not in shown.text:
                self.failures.append(shown.text)


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_nothing_fails_while_master_keys_are_rotated_and_discarded(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    data = tmp_path / "data"
    database = ["--database-url", request.getfixturevalue("postgres").new_database()] if engine == "postgresql" else []
    with ServeProcess(data, "--workers", "2", *database, **VARIABLES).wait_until_ready() as served:
        first = (data / "master.key").read_text()
        traffic = Traffic(served)
        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(traffic.run, number) for number in range(3)]
            try:
                traffic.go_on()
                said = rotate(data, *database)
                assert "sealed under the new master key" in said
                assert "stays in the ring" in said
                assert (count_keys(data), first in (data / "master.key").read_text()) == (2, True)
                for _ in range(2):
                    traffic.go_on()
                    assert "are discarded" in rotate(data, "--discard-old", "--yes", *database)
                    assert count_keys(data) == 1
                assert first not in (data / "master.key").read_text()
                traffic.go_on()
            finally:
                traffic.stopped.set()
            for one in running:
                one.result()
        assert traffic.failures == []
        assert len(traffic.made) > 10
        check_all(served, traffic.made)
        assert "Traceback" not in served.output()

    # A process that never knew the old keys.
    with ServeProcess(data, *database, **VARIABLES).wait_until_ready() as again:
        check_all(again, traffic.made)


def check_all(served: ServeProcess, made: dict[str, str]) -> None:
    api = Api(served)
    shown = {}
    for url in {one.rpartition("/")[0] for one in made}:
        listed = api.call("GET", url, params={"key-format": "visible", "limit": "1000"})
        assert listed["total"] == len(listed["data"])
        shown |= {f"{url}/{key['id']}": key["key"] for key in listed["data"]}
    assert shown == made


async def test_rotations_at_the_same_time_forget_no_master_key(service: Service) -> None:
    consumer = await service.new_consumer(apiKeys=[{}, {}])
    settings = service.settings

    said = await asyncio.gather(
        *(first_start.rotate_master_key(settings, discard_old=number == 2) for number in range(4))
    )

    assert all(line.startswith("3 data keys sealed") for line in said)
    asked = {"include-api-keys": "true", "key-format": "visible"}
    shown = await service.call("GET", f"{service.consumers_url}/{consumer['name']}", params=asked)
    assert shown["apiKeys"] == consumer["apiKeys"]
    assert settings.master_key_file.stat().st_mode & 0o777 == 0o600
    assert not list(settings.data_dir.glob("master.key.*"))


def test_a_master_key_from_a_variable_is_rotated_by_putting_the_new_one_in_front(
    tmp_path: Path, postgres: Postgres
) -> None:
    import base64

    old, new = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
    data, url = tmp_path / "data", postgres.new_database()
    variables = {**VARIABLES, "KEYWRIGHT_DATABASE_URL": url}
    with ServeProcess(data, KEYWRIGHT_MASTER_KEY=old, **variables).wait_until_ready() as served:
        key = Api(served).new_consumer(apiKeys=[{}])
        served.stop()
    assert not (data / "master.key").exists()
    with ServeProcess(data, KEYWRIGHT_MASTER_KEY=f"{new},{old}", **variables).wait_until_ready() as served:
        command = [COMMAND, "rotate-master-key", "--data-dir", str(data), "--discard-old", "--yes"]
        environment = {**os.environ, "KEYWRIGHT_DATABASE_URL": url, "KEYWRIGHT_MASTER_KEY": f"{new},{old}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        assert "KEYWRIGHT_MASTER_KEY may now hold that key alone" in done.stdout
        served.stop()
    with ServeProcess(data, KEYWRIGHT_MASTER_KEY=new, **variables).wait_until_ready() as served:
        shown = Api(served).call("GET", f"{CONSUMERS_URL}/{key['name']}/keys", params={"key-format": "visible"})
        assert shown["data"][0]["key"] == key["apiKeys"][0]["key"]
