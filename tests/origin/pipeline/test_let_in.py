"""Who was let in a moment ago is not asked for twice, and has nothing of it once they may no more."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keywright.domain.permissions import Grantee, Permissions
from keywright.origin.auth.actors import Actor, ActorKind
from keywright.origin.db.transaction import Database
from keywright.origin.pipeline import let_in
from keywright.origin.pipeline.let_in import HARMLESS, Entrance, LetIn
from support.service import Service

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACTOR = Actor("key_1", ActorKind.SERVICE, Grantee("acct_1", Permissions()), connection="management-key")


async def _admission(*_: Any) -> None: ...


async def _another(*_: Any) -> None: ...


HERE = Entrance.of(b"digest", "192.0.2.1", _admission, {"bucketName": "b", "accountName": "a"})


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("entrance", "now", "is_known"),
    [
        (HERE, NOW, True),
        (Entrance.of(b"digest", "192.0.2.1", _admission, {"accountName": "a", "bucketName": "b"}), NOW, True),
        (HERE, later(0.9), True),
        (HERE, later(1), False),
        (HERE, later(-1), False),
        (HERE._replace(digest=b"other"), NOW, False),
        (HERE._replace(address="192.0.2.2"), NOW, False),
        (HERE._replace(admission=_another), NOW, False),
        (HERE._replace(place=(("accountName", "a"), ("bucketName", "c"))), NOW, False),
    ],
)
def test_an_entrance_is_known_for_a_second_for_the_same_alone(
    entrance: Entrance, now: datetime, is_known: bool
) -> None:
    known = LetIn()
    known.note(HERE, ACTOR, "acct_1", NOW)
    assert (known.find(entrance, now) is not None) is is_known


def test_an_entrance_ends_with_its_key() -> None:
    known = LetIn()
    known.note(HERE, replace(ACTOR, expires_at=later(0.5)), None, NOW)
    assert known.find(HERE, later(0.4)) is not None
    assert known.find(HERE, later(0.5)) is None


def test_whatever_may_take_rights_away_has_all_forgotten() -> None:
    for action in ("management-key.delete", "bucket.update", "consumer.update", "grant.delete", None):
        known = LetIn()
        known.note(HERE, ACTOR, None, NOW)
        for harmless in HARMLESS:
            known.forget_after(harmless)
        assert known.find(HERE, NOW) is not None
        known.forget_after(action)
        assert known.find(HERE, NOW) is None


def test_many_entrances_take_no_more_room_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(let_in, "MOST", 3)
    known = LetIn()
    for number in range(10):
        known.note(HERE._replace(digest=b"%d" % number), ACTOR, None, NOW)
    assert len(known._known) <= 3


@pytest.mark.asyncio(loop_scope="module")
async def test_a_key_that_is_let_in_again_is_judged_where_it_acts_and_nowhere_before(
    shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[object] = []
    reading = Database.run_read

    async def note(self: Database, work: Any, **options: Any) -> Any:
        reads.append(work)
        return await reading(self, work, **options)

    consumer = (await shared.new_consumer())["name"]
    management_keys = f"{shared.account_url}/management-keys"
    permissions = {"buckets": {shared.bucket: "write"}}
    management = await shared.call("POST", management_keys, json={"permissions": permissions})
    secret = management["key"]
    keys = f"{shared.consumers_url}/{consumer}/keys"
    # A second may be over before the next request.
    monkeypatch.setattr(let_in, "SECONDS", 1000.0)
    services = shared.app._origin.state.services
    await shared.call("POST", keys, key=secret, json={})
    monkeypatch.setattr(Database, "run_read", note)
    await shared.call("POST", keys, key=secret, json={})
    assert [work for work in reads if work.__qualname__.startswith(("authenticate", "_admit"))] == []
    # Revoked by another process, of which this one has not heard: it may send a body, and does nothing.
    entrances = dict(services.let_in._known)
    await shared.call("DELETE", f"{management_keys}/{management['id']}", expect=204)
    assert services.let_in._known == {}
    services.let_in._known.update(entrances)
    refused = await shared.call("POST", keys, key=secret, json={}, expect=401)
    assert refused["detail"] == "The management key is not valid."
    assert (await shared.call("GET", keys))["total"] == 2
