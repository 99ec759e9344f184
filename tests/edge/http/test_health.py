"""Health and readiness: whether the process answers, and whether keys can be judged."""

from __future__ import annotations

from edge.apps import Status
from edge.asgi import call
from keywright.edge.http.health import Health
from keywright.edge.mirror import MirrorStatus


async def test_health_and_readiness_tell_how_the_replica_is() -> None:
    status = Status()
    health = Health(status)
    assert (await call(health.livez, "GET", "/livez")).json() == {"alive": True}
    answer = await call(health.readyz, "GET", "/readyz")
    assert (answer.status, answer.json()) == (
        200, {"ready": True, "synced": True, "revision": 7, "lag_seconds": 0.123, "since": "2026-01-02T03:04:05.000Z"},
    )  # fmt: skip
    status.revision = None
    assert (await call(health.readyz, "GET", "/readyz")).status == 503
    assert (await call(health.readyz, "HEAD", "/readyz")).body == b""
    assert (await call(health.livez, "POST", "/livez")).headers["allow"] == "GET, HEAD"


async def test_readiness_says_why_a_replica_is_not_in_step() -> None:
    status = Status()
    status.is_synced, status.reason, status.lag_seconds = False, "OSError: no route", float("inf")
    told = (await call(Health(status).readyz, "GET", "/readyz")).json()
    assert (told["synced"], told["reason"], told["lag_seconds"]) == (False, "OSError: no route", None)


async def test_readiness_says_apart_that_a_format_is_not_read() -> None:
    status = Status()
    assert "format_unknown" not in (await call(Health(status).readyz, "GET", "/readyz")).json()
    status.is_synced, status.is_format_unknown, status.reason = False, True, "OtherFormat: of a later version"
    told = (await call(Health(status).readyz, "GET", "/readyz")).json()
    assert (told["format_unknown"], told["reason"]) == (True, "OtherFormat: of a later version")


async def test_readiness_tells_of_a_haproxy_that_is_behind() -> None:
    status = Status()
    status.mirror = MirrorStatus(
        is_synced=False, revision=5, lag_seconds=2.5, pending=30, blocked=2, is_believed=True, reason="OSError: gone"
    )
    answer = await call(Health(status).readyz, "GET", "/readyz")
    assert (answer.status, answer.json()["haproxy"]) == (
        200,
        {
            "synced": False, "answering": True, "revision": 5, "lag_seconds": 2.5, "pending_entries": 30,
            "blocked_consumers": 2, "reason": "OSError: gone",
        },
    )  # fmt: skip
    status.mirror = MirrorStatus.unknown("no process follows the record")
    assert (await call(Health(status).readyz, "GET", "/readyz")).json()["haproxy"]["lag_seconds"] is None
