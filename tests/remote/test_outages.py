"""Edges whose origin was away, or that were stopped meanwhile: who is waited for, and when they act by what ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from remote.conftest import Origin
from remote.fleet import answers, revoke
from support.process import EdgeProcess, until
from support.proxy import Proxy

pytestmark = pytest.mark.long(80)


@pytest.mark.parametrize("seconds", [9, 14])
def test_after_an_outage_every_edge_that_ever_reported_is_waited_for_and_none_accepts_what_ended(
    origin: Origin, fleet: Callable[..., EdgeProcess], seconds: int
) -> None:
    edge = fleet("backing-off")
    keys = [origin.new_key() for _ in range(3)]
    until(lambda: {edge.verdict(key["key"]) for key in keys} == {"VALID"})
    origin.process.kill()
    time.sleep(seconds)
    origin.restart()
    for key in keys:
        answer = revoke(origin, key, "wait=all&timeout=30000")
        assert (answer.headers["keywright-applied"], edge.verdict(key["key"])) == ("2/2", "UNKNOWN")


def test_a_stop_while_the_origin_is_away_leaves_the_edge_pending(
    origin: Origin, proxy: Proxy, fleet: Callable[..., EdgeProcess]
) -> None:
    edge = fleet("cut", url=proxy.url)
    proxy.cut()
    edge.stop()
    answer = revoke(origin, origin.new_key(), "wait=all&timeout=300")
    assert answer.headers["keywright-pending"] == "cut"


def test_an_edge_is_in_step_soon_after_the_origin_is_back_however_long_it_backed_off(
    origin: Origin, fleet: Callable[..., EdgeProcess]
) -> None:
    edge = fleet("backing-off")
    for seconds in (6, 12):
        origin.process.kill()
        time.sleep(seconds)
        origin.restart()
        back_at = time.monotonic()
        until(lambda: edge.get("/readyz")["synced"], timeout=30)
        assert time.monotonic() - back_at < 3


def test_an_edge_that_said_goodbye_answers_again_only_when_it_has_what_ended_meanwhile(
    origin: Origin, proxy: Proxy, fleet: Callable[..., EdgeProcess], tmp_path: Path
) -> None:
    key = origin.new_key()
    edge = fleet("stopped", url=proxy.url)
    until(lambda: edge.verdict(key["key"]) == "VALID")
    edge.stop()
    assert revoke(origin, key, "wait=all").headers["keywright-applied"] == "1/1"
    proxy.cut()
    again = EdgeProcess(tmp_path / "stopped", proxy.url, origin.token, origin.pepper_file)
    try:
        until(lambda: answers(again), timeout=60)
        assert again.verdict(key["key"]) == "503"
        proxy.heal()
        until(lambda: again.verdict(key["key"]) != "503", timeout=30)
        assert again.verdict(key["key"]) == "UNKNOWN"
    finally:
        again.kill()
