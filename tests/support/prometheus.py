"""A real Prometheus, and its promtool (Debian: `prometheus`)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from support.ports import free_port
from support.process import NO_TLS, until


def find_tool(name: str) -> str:
    """Raises RuntimeError where there is none."""
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"no {name} found: install Debian's package `prometheus`")
    return found


def promtool(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [find_tool("promtool"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


class Prometheus:
    """A running one; see `running`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API. Raises AssertionError with what it says of a query that it can't read."""
        answer = httpx2.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10, verify=NO_TLS).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found


@contextmanager
def running(directory: Path, targets: Mapping[str, str], rules: Path) -> Iterator[Prometheus]:
    """One that scrapes these targets (host and port) every second, each as the instance of that name."""
    lines = ["global: {scrape_interval: 1s, evaluation_interval: 1s}", f"rule_files: [{rules}]", "scrape_configs:"]
    lines += ["  - job_name: keywright", "    static_configs:"]
    for instance, target in targets.items():
        lines += [f"      - targets: ['{target}']", f"        labels: {{instance: {instance}}}"]
    config = directory / "prometheus.yml"
    config.write_text("\n".join(lines) + "\n")
    port = free_port()
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                find_tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log, cwd=directory,
        )  # fmt: skip
    started = Prometheus(f"http://127.0.0.1:{port}")
    try:
        until(lambda: _has_scraped(started, targets), 60)
        yield started
    finally:
        process.kill()
        process.wait()


def _has_scraped(started: Prometheus, targets: Mapping[str, str]) -> bool:
    try:
        is_ready = httpx2.get(f"{started.url}/-/ready", timeout=5, verify=NO_TLS).status_code == 200
    except httpx2.TransportError:
        return False
    return is_ready and len(started.query("count_over_time(up[1m]) > 2 and up == 1")) == len(targets)
