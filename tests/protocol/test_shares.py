"""What edge and origin tell each other of shares is read as it was written, and by nobody else's hand."""

from __future__ import annotations

import hmac
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain.keyformat import Digester, is_valid_custom
from keywright.protocol import shares
from keywright.protocol.reports import ReportSigner
from keywright.protocol.shares import (
    MAX_BYTES,
    MAX_USES,
    NO_SHARE,
    WHOLE,
    ShareAnswer,
    SharesError,
    SharesSigner,
    Use,
    UseReport,
    consumer_number_of,
)

DIGESTER = Digester(b"pepper of the tests, 32 bytes ok")
SIGNER = SharesSigner(DIGESTER)
SAMPLES = Path(__file__).parent / "samples"
ID = (7).to_bytes(5, "little") + b"hash of 11."
USES = {ID: Use(2.5, True, 100, 60)}
REPORT = UseReport("dply_1", "0123456789abcdef", "fedcba9876543210", 3, 2, USES, freed={bytes(16): 9})
ANSWER = ShareAnswer(3, WHOLE // 4, 4, 1.0, False, {ID: WHOLE // 2, bytes(16): NO_SHARE}, {ID: 7})


def signed(label: bytes, line: Any, rows: bytes = b"") -> bytes:
    body = (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" + rows
    return b"kws1" + SIGNER._mac(label, body) + body


def use(rate: float = 1.0, limit: int = 1, seconds: int = 1, flags: int = 0) -> bytes:
    return struct.pack(">16sfIIB", ID, rate, limit, seconds, flags)


LINE = ["dply_1", "0123456789abcdef", "fedcba9876543210", 3, 2, 0, 1, 0]
ONE = [*LINE[:7], 1]


def test_stored_samples_of_format_1_are_still_understood_and_written() -> None:
    report, answer = ((SAMPLES / f"shares-{name}-1.bin").read_bytes() for name in ("report", "answer"))
    assert (SIGNER.decode_report(report), SIGNER.decode_answer(answer, REPORT)) == (REPORT, ANSWER)
    assert (SIGNER.encode_report(REPORT), SIGNER.encode_answer(ANSWER, REPORT)) == (report, answer)


def test_report_and_answer_are_read_as_they_were_written() -> None:
    assert SIGNER.decode_report(SIGNER.encode_report(REPORT)) == REPORT
    assert SIGNER.decode_answer(SIGNER.encode_answer(ANSWER, REPORT), REPORT) == ANSWER
    assert consumer_number_of(ID) == 7


def test_fullest_message_is_within_the_bound() -> None:
    uses = {number.to_bytes(16, "big"): Use(1e9, True, 10**9, 86_400) for number in range(MAX_USES)}
    full = replace(REPORT, uses=uses, deployment_id="d" * 64, instance="i" * 64, start="s" * 64, number=10**14)
    assert len(SIGNER.encode_report(full)) <= MAX_BYTES
    assert len(SIGNER.decode_report(SIGNER.encode_report(full)).uses) == MAX_USES


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"kws1", id="nothing behind the magic"),
        pytest.param(b"{" * 10_000_000, id="10 MB of garbage"),
        pytest.param(b"kws2" + bytes(40), id="a later format"),
        pytest.param(signed(b"report", b"{" * 400), id="no JSON"),
        pytest.param(signed(b"report", b"[" * 100_000), id="no line"),
        pytest.param(signed(b"report", {}), id="an object"),
        pytest.param(signed(b"report", [*LINE[:3], True, *LINE[4:]]), id="a bool for a number"),
        pytest.param(signed(b"report", [*LINE[:3], -1, *LINE[4:]]), id="a negative number"),
        pytest.param(signed(b"report", [*LINE[:3], 10**15, *LINE[4:]]), id="a number too large"),
        pytest.param(signed(b"report", ["a b", *LINE[1:]]), id="a deployment with a space"),
        pytest.param(signed(b"report", ["dply_1", "short", *LINE[2:]]), id="an instance of another form"),
        pytest.param(signed(b"report", [*LINE[:5], 1, 1, 0]), id="a part behind the last"),
        pytest.param(signed(b"report", [*LINE[:5], 0, 100, 0]), id="more parts than there can be"),
        pytest.param(signed(b"report", ONE, use()[:-1]), id="a row cut short"),
        pytest.param(signed(b"report", ONE, use(rate=float("nan"))), id="a rate that is none"),
        pytest.param(signed(b"report", ONE, use(rate=-1)), id="a negative rate"),
        pytest.param(signed(b"report", ONE, use(rate=float("inf"))), id="an endless rate"),
        pytest.param(signed(b"report", ONE, use(limit=0)), id="a limit of nothing"),
        pytest.param(signed(b"report", ONE, use(seconds=86_401)), id="a window too long"),
        pytest.param(signed(b"report", ONE, use(flags=2)), id="an unknown flag"),
        pytest.param(signed(b"report", [*LINE[:7], 2], use()), id="fewer rows than it says"),
        pytest.param(signed(b"report", LINE, struct.pack(">16sI", ID, WHOLE + 1)), id="more freed than there can be"),
        pytest.param(signed(b"answer", LINE), id="made for something else"),
        pytest.param(SIGNER.encode_report(REPORT)[:-1] + b"\0", id="a changed byte"),
        pytest.param(SharesSigner(Digester(bytes(32))).encode_report(REPORT), id="another pepper"),
    ],
)  # fmt: skip
def test_what_no_edge_of_this_deployment_wrote_is_refused(data: bytes) -> None:
    with pytest.raises(SharesError):
        SIGNER.decode_report(data)


@pytest.mark.parametrize(
    "other",
    [replace(REPORT, number=4), replace(REPORT, start="0" * 16), replace(REPORT, instance="i" * 16)],
    ids=["an earlier report", "an earlier start", "another edge"],
)
def test_answer_to_another_report_is_none(other: UseReport) -> None:
    with pytest.raises(SharesError):
        SIGNER.decode_answer(SIGNER.encode_answer(ANSWER, other), REPORT)


@pytest.mark.parametrize(
    "line",
    [
        [3, WHOLE + 1, 4, 1.0, False],
        [3, 0, 4, 6.0, False],
        [3, 0, 4, True, False],
        [3, 0, 4, 1.0, 0],
        [-1, 0, 4, 1.0, False],
        [3, 0, 4],
        "x",
    ],
    ids=["more than a whole", "a long pause", "a bool for a pause", "a number for a bool", "negative", "short", "text"],
)
def test_answer_of_another_shape_is_refused(line: Any) -> None:
    with pytest.raises(SharesError):
        SIGNER.decode_answer(signed(shares._answer_to(REPORT), line), REPORT)


def test_share_that_can_not_be_is_refused() -> None:
    data = signed(shares._answer_to(REPORT), [3, 0, 4, 1.0, False], struct.pack(">16sII", ID, NO_SHARE + 1, 0))
    with pytest.raises(SharesError):
        SIGNER.decode_answer(data, REPORT)


@given(st.binary(max_size=600))
def test_garbage_is_refused_whoever_signed_it(body: bytes) -> None:
    for label in (b"report", shares._answer_to(REPORT)):
        data = b"kws1" + SIGNER._mac(label, body) + body
        try:
            SIGNER.decode_report(data) if label == b"report" else SIGNER.decode_answer(data, REPORT)
        except SharesError:
            continue


def test_key_is_no_api_keys_and_not_that_of_reports() -> None:
    assert not is_valid_custom(shares._KEY_LABEL)
    body = b"[]\n"
    assert SIGNER._mac(b"report", body) != hmac.digest(ReportSigner(DIGESTER)._key, b"\x06report" + body, "sha256")
