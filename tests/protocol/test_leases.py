"""What edge and origin say to each other of quotas, written and read; and all that is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain.keyformat import Digester
from keywright.domain.limits import MAX_UNITS
from keywright.protocol.leases import (
    MAX_ANSWER_BYTES,
    MAX_ASKS,
    MAX_QUESTION_BYTES,
    Answer,
    Ask,
    LeaseError,
    LeaseSigner,
    Loan,
    Outcome,
    Question,
)

SIGNER = LeaseSigner(Digester(b"p" * 32))
SAMPLES = Path(__file__).parent / "samples"
ASK = Ask(7, "calls", lease=3, spent=10, returned=2, overspent=1, want=50, need=5)
QUESTION = Question("dep-1", "i" * 22, 2, 4, "0" * 32, "5.aabb.6", True, (ASK, Ask(8, "calls", want=1)))
ANSWER = Answer("f" * 32, (Loan(Outcome.LENT, 3, 60, 60_000, 5, None, 100, 40), Loan(Outcome.UNKNOWN)))

units = st.integers(0, MAX_UNITS)
held = st.builds(Ask, st.integers(1, 2**60 // 2), st.just("calls"), st.integers(1, 10**15), units, units, units, units)
fresh = st.builds(Ask, st.integers(1, 10**15), st.sampled_from(["a", "calls-a-day"]), want=units, need=units)


@given(
    st.lists(st.one_of(held, fresh), min_size=1, max_size=20, unique_by=lambda one: (one.consumer_number, one.quota))
)
def test_question_comes_back_as_it_was_asked(asks: list[Ask]) -> None:
    question = replace(QUESTION, asks=tuple(asks))

    assert SIGNER.decode_question(SIGNER.encode_question(question)) == question


def test_stored_question_and_answer_are_read_and_written_as_ever() -> None:
    asked, told = ((SAMPLES / f"lease-{name}-1.bin").read_bytes() for name in ("question", "answer"))

    assert SIGNER.decode_question(asked) == QUESTION
    assert SIGNER.encode_question(QUESTION) == asked
    assert SIGNER.decode_answer(asked, told) == ANSWER
    assert SIGNER.encode_answer(asked, ANSWER) == told


def test_answer_comes_back_as_it_was_given_and_only_to_its_question() -> None:
    asked = SIGNER.encode_question(QUESTION)
    data = SIGNER.encode_answer(asked, ANSWER)
    assert SIGNER.decode_answer(asked, data) == ANSWER

    other = SIGNER.encode_question(replace(QUESTION, number=5))
    with pytest.raises(LeaseError, match="not for this question"):
        SIGNER.decode_answer(other, data)


def test_largest_question_and_answer_fit_their_bounds() -> None:
    most = 2 * MAX_UNITS
    asks = tuple(Ask(10**18 - n, "n" * 40, 10**18, most, most, most, most, most, is_last=True) for n in range(MAX_ASKS))
    asked = SIGNER.encode_question(replace(QUESTION, cursor="c" * 100, asks=asks))
    assert len(asked) <= MAX_QUESTION_BYTES
    SIGNER.decode_question(asked)

    loan = Loan(Outcome.RECALLED, 10**18, most, 60_000, 10**14, 10**14, most, most)
    data = SIGNER.encode_answer(asked, Answer("f" * 32, (loan,) * MAX_ASKS))
    assert len(data) <= MAX_ANSWER_BYTES
    SIGNER.decode_answer(asked, data)


def test_no_changed_byte_is_read() -> None:
    data = SIGNER.encode_question(QUESTION)
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(LeaseError):
            SIGNER.decode_question(bytes(changed))


def test_neither_another_deployments_nor_an_answer_is_read_as_a_question() -> None:
    foreign = LeaseSigner(Digester(b"q" * 32)).encode_question(QUESTION)
    answer = SIGNER.encode_answer(SIGNER.encode_question(QUESTION), ANSWER)
    for data in (foreign, answer, b"", b"kwq1", b"x" * (MAX_QUESTION_BYTES + 1)):
        with pytest.raises(LeaseError):
            SIGNER.decode_question(data)


def row_of(question: Question) -> list[Any]:
    row: list[Any] = json.loads(SIGNER.encode_question(question)[36:])
    return row


def changed(place: tuple[int, ...], value: object) -> list[Any]:
    row = row_of(QUESTION)
    at = row
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    return row


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({}, id="no array"),
        pytest.param([], id="empty"),
        pytest.param(row_of(QUESTION)[:-1], id="without asks"),
        pytest.param([*row_of(QUESTION), 1], id="one member too many"),
        pytest.param(changed((6,), 1), id="whole as a number"),
        pytest.param(changed((7,), []), id="nothing asked"),
        pytest.param(changed((7,), [list(row_of(QUESTION)[7][0])] * 2), id="one lease twice"),
        pytest.param(changed((1,), "short"), id="instance too short"),
        pytest.param(changed((2,), "2"), id="a start as text"),
        pytest.param(changed((3,), True), id="a number that is a bool"),
        pytest.param(changed((3,), -1), id="a negative number"),
        pytest.param(changed((3,), 2**63), id="a number past eight bytes"),
        pytest.param(changed((3,), 1.5), id="a broken number"),
        pytest.param(changed((4,), "F" * 32), id="a place in capitals"),
        pytest.param(changed((5,), "c" * 101), id="a cursor too long"),
        pytest.param(changed((7, 0, 1), "Calls"), id="a quota that has no such name"),
        pytest.param(changed((7, 0, 0), "7"), id="a consumer as text"),
        pytest.param(changed((7, 0, 3), -1), id="spent less than nothing"),
        pytest.param(changed((7, 0, 3), 2 * MAX_UNITS + 1), id="spent more than there can be"),
        pytest.param(changed((7, 0, 8), 1), id="last as a number"),
        pytest.param(changed((7, 1, 3), 1), id="spent of no lease"),
        pytest.param(changed((7, 1, 8), True), id="the last of no lease"),
        pytest.param(changed((7, 1), [8, "calls"]), id="an ask too short"),
    ],
)
def test_signed_nonsense_is_refused(row: object) -> None:
    data = SIGNER._sealed(b"kwq1", row, b"")  # type: ignore[arg-type]
    with pytest.raises(LeaseError, match="another shape"):
        SIGNER.decode_question(data)


def test_nested_garbage_under_a_good_mac_is_refused() -> None:
    said = b"[" * 50_000
    data = b"kwq1" + SIGNER._mac(b"kwq1", said, b"") + said
    with pytest.raises(LeaseError, match="can't be read"):
        SIGNER.decode_question(data)
