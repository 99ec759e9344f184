"""A delivery of usage is its sender's, and an answer is to that delivery and no other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keywright.domain.keyformat import Digester, is_valid_custom
from keywright.protocol import usage, usage_delivery
from keywright.protocol.reports import ReportSigner
from keywright.protocol.usage import UsageError
from keywright.protocol.usage_delivery import MAX_BYTES, WISHES_QUESTION, Delivery, Outcome, UsageAnswer, UsageSigner

SAMPLES = Path(__file__).parent / "samples"
DIGESTER = Digester(b"pepper of the tests, 32 bytes ok")
SIGNER = UsageSigner(DIGESTER)
DELIVERY = Delivery("0123456789abcdef", "fra-1", "", "0f" * 16, 1_764_000_000_000, b"kwb1 and so on")
ANSWER = UsageAnswer(Outcome.GAP, 4, 7, 0.5, "of other buckets")
LINE = ["0123456789abcdef", "fra-1", "", "0f" * 16, None]


def signed(line: Any, label: bytes = b"delivery", rest: bytes = b"") -> bytes:
    body = (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" + rest
    return b"kwu1" + SIGNER._mac(label, body) + body


def test_stored_samples_of_format_1_are_still_understood_and_written() -> None:
    delivery, answer = ((SAMPLES / f"usage-{name}-1.bin").read_bytes() for name in ("delivery", "answer"))
    assert (SIGNER.decode_delivery(delivery), SIGNER.decode_answer(answer, DELIVERY)) == (DELIVERY, ANSWER)
    assert (SIGNER.encode_delivery(DELIVERY), SIGNER.encode_answer(ANSWER, DELIVERY)) == (delivery, answer)


def test_delivery_and_answer_are_read_as_they_were_written() -> None:
    for one in (DELIVERY, replace(DELIVERY, known_until=None, content=b"", region="eu")):
        assert SIGNER.decode_delivery(SIGNER.encode_delivery(one)) == one
    for outcome in Outcome:
        answer = replace(ANSWER, outcome=outcome)
        assert SIGNER.decode_answer(SIGNER.encode_answer(answer, DELIVERY), DELIVERY) == answer


def test_largest_delivery_is_within_what_a_broker_takes() -> None:
    content = bytes(usage.MAX_BYTES)
    full = Delivery("i" * 64, "n" * 64, "r" * 64, "0" * 32, 10**14, content)
    encoded = SIGNER.encode_delivery(full)
    assert SIGNER.decode_delivery(encoded) == full
    assert len(encoded) <= MAX_BYTES <= 1024 * 1024


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"kwu1", id="nothing behind the magic"),
        pytest.param(bytes(10_000_000), id="10 MB of nothing"),
        pytest.param(signed(LINE).replace(b"kwu1", b"kwu2"), id="a later format"),
        pytest.param(signed(LINE)[:-1] + b" ", id="changed on its way"),
        pytest.param(signed(LINE, b"answer"), id="made for something else"),
        pytest.param(
            UsageSigner(Digester(b"another pepper, also of 32 bytes")).encode_delivery(DELIVERY), id="another's"
        ),
        pytest.param(signed(b"{" * 400), id="no JSON"),
        pytest.param(signed(b" " * 2000), id="no end of the line"),
        pytest.param(signed([*LINE, 1]), id="a member more"),
        pytest.param(signed(["short", *LINE[1:]]), id="an instance that is none"),
        pytest.param(signed([LINE[0], None, *LINE[2:]]), id="no name"),
        pytest.param(signed([*LINE[:3], "0f", None]), id="a short nonce"),
        pytest.param(signed([*LINE[:4], True]), id="a moment that is a boolean"),
        pytest.param(signed([*LINE[:4], -1]), id="a moment before time"),
    ],
)
def test_what_no_edge_sent_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        SIGNER.decode_delivery(data)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(["kept", 1, 0, 0, ""], id="an outcome that is none"),
        pytest.param(["taken", 0, 0, 0, ""], id="number 0"),
        pytest.param(["taken", True, 0, 0, ""], id="a number that is a boolean"),
        pytest.param(["taken", 1, -1, 0, ""], id="fewer than none lost"),
        pytest.param(["taken", 1, 0, 61, ""], id="too long a pause"),
        pytest.param(["taken", 1, 0, float("nan"), ""], id="a pause that is no number"),
        pytest.param(["taken", 1, 0, True, ""], id="a pause that is a boolean"),
        pytest.param(["taken", 1, 0, 0], id="a member less"),
    ],
)
def test_answer_that_no_origin_gave_is_refused(line: list[Any]) -> None:
    label = b"answer/0123456789abcdef/" + b"0f" * 16
    assert SIGNER.decode_answer(signed(["taken", 1, 0, 0, ""], label), DELIVERY) == UsageAnswer(Outcome.TAKEN)
    with pytest.raises(UsageError):
        SIGNER.decode_answer(signed(line, label), DELIVERY)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(DELIVERY, nonce="1f" * 16), id="the same batch sent before"),
        pytest.param(replace(DELIVERY, instance="fedcba9876543210"), id="another edge's"),
    ],
)
def test_answer_to_another_delivery_is_refused(other: Delivery) -> None:
    with pytest.raises(UsageError, match="not for this"):
        SIGNER.decode_answer(SIGNER.encode_answer(ANSWER, other), DELIVERY)


def test_key_of_deliveries_is_no_digest_of_a_key_and_no_other_message_s() -> None:
    assert not is_valid_custom(usage_delivery._KEY_LABEL)
    assert SIGNER._key != ReportSigner(DIGESTER)._key


def test_wishes_are_read_as_they_were_written_and_only_for_the_question_that_was_asked() -> None:
    question = replace(DELIVERY, content=WISHES_QUESTION)
    for recording in (frozenset[int](), frozenset({3, 70_000})):
        assert SIGNER.decode_wishes(SIGNER.encode_wishes(recording, question), question) == recording
    told = SIGNER.encode_wishes([1], question)
    with pytest.raises(UsageError):
        SIGNER.decode_wishes(told, replace(question, nonce="aa" * 16))
    with pytest.raises(UsageError):
        SIGNER.decode_answer(told, question)
    assert len(SIGNER.encode_wishes(range(10**9, 10**9 + 20_000), question)) < 64 * 1024


def test_stored_wishes_of_format_1_are_still_understood_and_written() -> None:
    question, stored = replace(DELIVERY, content=WISHES_QUESTION), (SAMPLES / "usage-wishes-1.bin").read_bytes()
    assert SIGNER.decode_wishes(stored, question) == {3, 70_000}
    assert SIGNER.encode_wishes([70_000, 3], question) == stored


def test_answer_of_an_origin_that_knows_no_wishes_is_none() -> None:
    question = replace(DELIVERY, content=WISHES_QUESTION)
    refusal = UsageAnswer(Outcome.REFUSED, detail="not a batch of usage")
    assert SIGNER.decode_wishes(SIGNER.encode_answer(refusal, question), question) is None


@pytest.mark.parametrize("rest", [b"", b"{}", b"[true]", b'["1"]', b"[" * 5000, b"[1.5]"])
def test_wishes_of_another_shape_are_refused(rest: bytes) -> None:
    question = replace(DELIVERY, content=WISHES_QUESTION)
    label = f"wishes/{question.instance}/{question.nonce}".encode()
    for line in (["recordAddresses"], ["something"]):
        if rest or line == ["something"]:
            with pytest.raises(UsageError):
                SIGNER.decode_wishes(signed(line, label, rest), question)
