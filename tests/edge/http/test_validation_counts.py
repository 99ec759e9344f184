"""What endpoints count: no name that is no bucket's is ever a label, and no more buckets than so many are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edge.apps import new_app
from edge.asgi import call
from edge.world import DIGESTER, NOW, bucket, consumer, key, load
from endpoints.table import BUCKET, VALID, fill
from keywright.edge.http import validation_counts
from keywright.edge.http.validation_counts import SECONDS, ValidationCounts, ValidationSource
from keywright.edge.validator import Validator
from keywright.runtime.metrics.shared_names import OTHER, SharedNames

if TYPE_CHECKING:
    from keywright.edge.app import EdgeApp
    from keywright.edge.replica.replica import Replica

SECRETS = [f"custom-secret-number-{number}" for number in range(5)]
ENDPOINTS = ("validate", "validate-v2", "forward-auth")


async def ask(app: EdgeApp, endpoint: str, name: str, secret: str) -> None:
    if endpoint == "forward-auth":
        await call(app, "GET", f"/v1/forward-auth/{name}", headers=[(b"authorization", b"Bearer " + secret.encode())])
    else:
        path = f"/{'v2' if endpoint == 'validate-v2' else 'v1'}/validate/{name}"
        await call(app, "POST", path, body=json.dumps({"key": secret}).encode())


def told(app: EdgeApp) -> dict[tuple[str, str, str], int]:
    """By endpoint, bucket and verdict, what is not 0."""
    counts = app.metrics.count()
    return {key[1:]: count for key, count in counts.items() if key[0] == "keywright_validations" and count}  # type: ignore[misc]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_names_that_are_no_bucket_are_counted_under_one_whoever_guesses_them(
    replica: Replica, endpoint: str
) -> None:
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW))
    for number in range(20):
        await ask(app, endpoint, f"guess-{number}", VALID)
    # Without a snapshot nobody knows which there are.
    assert told(app) == {(endpoint, OTHER, "UNAVAILABLE"): 20}
    fill(replica)
    for number in range(20):
        await ask(app, endpoint, f"guess-{number}", VALID)
        await ask(app, endpoint, "_system", VALID)
    assert told(app)[endpoint, "_none", "NO_BUCKET"] == 40
    assert {name for _, name, _ in told(app)} == {OTHER, "_none"}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_bucket_that_is_not_answered_for_is_counted_by_its_name(replica: Replica, endpoint: str) -> None:
    stale = replace(bucket(1, "stale-bucket"), refuse_after=1)
    load(replica, stale, consumer(1, 1), key(SECRETS[0], 1, 1))
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW))
    await ask(app, endpoint, "stale-bucket", SECRETS[0])
    assert told(app) == {(endpoint, "stale-bucket", "UNAVAILABLE"): 1}


async def test_buckets_beyond_so_many_are_counted_together_and_no_validation_is_missing(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_counts, "MOST_COUNTED", 4)
    names = [f"bucket-{number}" for number in range(5)]
    rows = [
        (bucket(at, name), consumer(at, bucket_number=at), key(SECRETS[at - 1], at, at))
        for at, name in enumerate(names, 1)
    ]
    load(replica, *(row[0] for row in rows), *(row[1] for row in rows), *(row[2] for row in rows))
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW))
    app.metrics.sources[0] = ValidationSource(app._validations.endpoints, SharedNames(most=2))
    for secret, name in zip(SECRETS, names, strict=True):
        for _ in range(3):
            await ask(app, "validate", name, secret)
        await ask(app, "validate", name, "short")
    found = told(app)
    assert found == {
        ("validate", "bucket-0", "VALID"): 3, ("validate", "bucket-0", "MALFORMED"): 1,
        ("validate", "bucket-1", "VALID"): 3, ("validate", "bucket-1", "MALFORMED"): 1,
        ("validate", OTHER, "VALID"): 9, ("validate", OTHER, "MALFORMED"): 3,
    }  # fmt: skip
    assert len(app._validate_api.counts.valid) <= 5


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_every_answer_is_in_the_histogram_of_its_endpoint_refusals_and_mistakes_too(
    replica: Replica, endpoint: str
) -> None:
    fill(replica)
    app = new_app(Validator(replica, DIGESTER, clock=lambda: NOW))
    await ask(app, endpoint, BUCKET, VALID)
    await ask(app, endpoint, BUCKET, "short")
    await ask(app, endpoint, "nowhere", VALID)
    path = "forward-auth" if endpoint == "forward-auth" else "validate"
    version = "v2" if endpoint == "validate-v2" else "v1"
    await call(app, "POST", f"/{version}/{path}/a/b" if path == "validate" else f"/{version}/{path}/", body=b"{")
    counted = app._validations.endpoints[endpoint].latency
    assert sum(counted.counts) == 4
    assert 0 < counted.total_ns < 60e9
    text = (await call(app, "GET", "/metrics")).body.decode()
    assert f'{SECONDS.name}_count{{endpoint="{endpoint}"}} 4.0' in text
    assert f'{SECONDS.name}_bucket{{endpoint="{endpoint}",le="+Inf"}} 4.0' in text


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_bug_of_ours_is_counted_as_one(
    replica: Replica, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    validator = Validator(replica, DIGESTER, clock=lambda: NOW)
    monkeypatch.setattr(validator, "validate", fail)
    app = new_app(validator)
    await ask(app, endpoint, BUCKET, VALID)
    text = (await call(app, "GET", "/metrics")).body.decode()
    assert f'keywright_validation_failures_total{{endpoint="{endpoint}"}} 1.0' in text
    assert told(app) == {}


def test_a_count_does_not_fall_when_a_refused_bucket_turns_out_to_be_there() -> None:
    known: set[str] = set()
    counts = ValidationCounts(known.__contains__)
    counts.refuse("my-bucket", "UNAVAILABLE")
    known.add("my-bucket")
    counts.refuse("my-bucket", "UNAVAILABLE")
    counts.begin("my-bucket")
    assert counts.refused == {(OTHER, "UNAVAILABLE"): 1, ("my-bucket", "UNAVAILABLE"): 1}
    assert counts.valid["my-bucket"] == 1
