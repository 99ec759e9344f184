"""The validator's guarantees: it never raises, and a replica that can't say is never a no."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import lmdb
import pytest

from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, batch, bucket, consumer, key
from endpoints.table import BUCKET, VALID, fill
from keywright.domain.permissions import Access
from keywright.domain.verdict import Verdict
from keywright.edge.replica.files import ReplicaBroken
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator, now_millis
from keywright.protocol.changes import ConsumerDelete
from keywright.runtime.clock import Clock

if TYPE_CHECKING:
    from keywright.protocol.changes import Change


@pytest.fixture
def validator(replica: Replica) -> Validator:
    return Validator(replica, DIGESTER, clock=lambda: NOW)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "\ud800" * 20,
        "zpka_\udfff" + "0" * 20,
        "x" * 10_000_000,
        "\0" * 50,
        "é" * 400,
        "\n" * 9,
        VALID + "\n",
        "🔑" * 20,
    ],
    ids=[
        "empty",
        "surrogates",
        "surrogate",
        "10 MB",
        "NUL",
        "two bytes",
        "newlines",
        "newline at the end",
        "four bytes",
    ],
)
def test_any_text_gets_a_verdict(replica: Replica, validator: Validator, secret: str) -> None:
    assert validator.validate(secret, BUCKET).verdict is Verdict.UNAVAILABLE
    fill(replica)
    assert validator.validate(secret, BUCKET).verdict is Verdict.MALFORMED
    assert validator.validate(secret, "nowhere").verdict is Verdict.NO_BUCKET
    assert validator.validate(VALID, secret).verdict is Verdict.NO_BUCKET


def test_no_digest_is_made_of_a_text_that_is_too_long(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    digested: list[str] = []

    class Spy:
        def digest(self, secret: str) -> bytes:
            digested.append(secret)
            return DIGESTER.digest(secret)

    fill(replica)
    validator = Validator(replica, Spy(), Clock().millis)  # type: ignore[arg-type]
    validator.validate("x" * 513, BUCKET)
    validator.validate("x" * 512, BUCKET)
    assert [len(secret) for secret in digested] == [512]


def test_a_deleted_consumers_key_is_unknown_at_the_very_next_call(replica: Replica, validator: Validator) -> None:
    fill(replica)
    for _ in range(10):
        assert validator.validate(VALID, BUCKET).is_valid
    replica.apply(batch(replica.revision or 0, [ConsumerDelete(1)]))
    assert validator.validate(VALID, BUCKET).verdict is Verdict.UNKNOWN


def test_the_clock_decides_to_the_millisecond(replica: Replica) -> None:
    now = NOW
    replica.load("dep_1", PEPPER_CHECK, at(1), [bucket(1, BUCKET), consumer(1, 1), key(VALID, 1, 1, NOW + 2)])
    validator = Validator(replica, DIGESTER, clock=lambda: now)
    verdicts = []
    for now in (NOW, NOW + 1, NOW + 2, NOW + 3, NOW):  # noqa: B007
        verdicts.append(validator.validate(VALID, BUCKET).verdict.value)
    assert verdicts == ["VALID", "VALID", "EXPIRED", "EXPIRED", "VALID"]


def test_the_default_clock_counts_milliseconds() -> None:
    assert 1_700_000_000_000 < now_millis() < 9_000_000_000_000


@pytest.mark.parametrize(
    ("error", "is_marked_corrupt"),
    [
        (lmdb.Error("racing"), False),
        (lmdb.CorruptedError("page 7"), True),
        (ReplicaBroken("x"), True),
        (ValueError("y"), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_replica_that_cannot_be_read_is_no_refusal(
    replica: Replica,
    validator: Validator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    is_marked_corrupt: bool,
) -> None:
    fill(replica)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(replica, "find", fail)
        for _ in range(5):
            assert validator.validate(VALID, BUCKET).verdict is Verdict.UNAVAILABLE
            assert not validator.authorise(VALID, BUCKET)
        patch.setattr(replica, "find_bucket", fail)
        assert validator.has_bucket(BUCKET) is None
    assert len(caplog.records) == 1
    assert replica.is_marked_corrupt is is_marked_corrupt
    assert VALID not in caplog.text


def test_a_closed_replica_is_unavailable(replica: Replica, validator: Validator) -> None:
    fill(replica)
    replica.close()
    assert validator.validate(VALID, BUCKET).verdict is Verdict.UNAVAILABLE
    assert validator.has_bucket(BUCKET) is None


ROOT = '{"account":"acct_9","permissions":{"account":"none"},"root":true}'
OWN_ACCOUNT = '{"account":"acct_1","permissions":{"account":"read"}}'
THIS_BUCKET = '{"account":"acct_1","permissions":{"buckets":{"my-bucket":"validate"}}}'
OTHER_BUCKET = '{"account":"acct_1","permissions":{"buckets":{"other":"write"}}}'
NOTHING = '{"account":"acct_1","permissions":{}}'
GUEST = '{"account":"acct_2","permissions":{"account":"write"}}'
STRANGER = '{"account":"acct_3","permissions":{"account":"write"}}'
TOKEN = "zpka_a-management-key"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (ROOT, True), (OWN_ACCOUNT, True), (THIS_BUCKET, True), (OTHER_BUCKET, False), (NOTHING, False), (GUEST, True),
        (STRANGER, False), ("{}", False), ("[]", False), ("nonsense", False),
        ('{"account":"a","permissions":7}', False),
    ],
)  # fmt: skip
def test_a_token_is_a_management_key_with_access_to_the_bucket(
    replica: Replica, validator: Validator, metadata: str, expected: bool
) -> None:
    system: list[Change] = [bucket(2, "_system", None), consumer(2, 2, "token", metadata), key(TOKEN, 2, 2)]
    ours: list[Change] = [bucket(1, BUCKET, "acct_1", acct_2=Access.VALIDATE), consumer(1, 1), key(VALID, 1, 1)]
    replica.load("dep_1", PEPPER_CHECK, at(1), [*ours, *system])
    assert validator.authorise(TOKEN, BUCKET) is expected
    # A consumer's key is no management key, and a management key is no consumer's key.
    assert not validator.authorise(VALID, BUCKET)
    assert validator.validate(TOKEN, BUCKET).verdict is Verdict.UNKNOWN
    assert validator.validate(TOKEN, "_system").verdict is Verdict.NO_BUCKET
    assert not validator.authorise(TOKEN, "_system")
    assert not validator.authorise(TOKEN, "nowhere")
    assert not validator.authorise("short", BUCKET)


def test_a_token_cannot_be_judged_when_its_bucket_cannot_be_read(
    replica: Replica, validator: Validator, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.load(
        "dep_1", PEPPER_CHECK, at(1), [bucket(2, "_system", None), consumer(2, 2, "t", ROOT), key(TOKEN, 2, 2)]
    )

    def fail(*_: object) -> None:
        raise lmdb.Error("racing")

    monkeypatch.setattr(replica, "find_bucket", fail)
    assert not validator.authorise(TOKEN, BUCKET)


def test_a_map_that_another_process_enlarged_is_adopted(replica: Replica, validator: Validator) -> None:
    fill(replica)
    files = replica._files
    real, failures = files.begin, [lmdb.MapResizedError("grown")]

    def begin(*arguments: object) -> object:
        if failures:
            raise failures.pop()
        return real(*arguments)

    files.begin = begin
    assert validator.validate(VALID, BUCKET).is_valid
