"""A report is what an edge of this deployment said, in its form; or it is refused."""

from __future__ import annotations

import hmac
import json
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest

from keywright.domain.keyformat import Digester, is_valid_custom
from keywright.protocol import reports
from keywright.protocol.changes import Cursor
from keywright.protocol.frames import FrameSigner
from keywright.protocol.reports import MAX_BYTES, EdgeState, Report, ReportError, ReportSigner

DIGESTER = Digester(b"pepper of the tests, 32 bytes ok")
SIGNER = ReportSigner(DIGESTER)
SAMPLE = Path(__file__).parent / "samples" / "report-1.bin"
SAMPLE_2, SAMPLE_3 = SAMPLE.with_name("report-2.bin"), SAMPLE.with_name("report-3.bin")
SAMPLE_4 = SAMPLE.with_name("report-4.bin")
REPORT = Report(
    "dply_1", "0123456789abcdef", "fedcba9876543210", 3, "edge-1", "eu-north", "0.1.0", EdgeState.SYNCED,
    1_800_000_000_000, Cursor(42, "00112233aabbccdd", 1_800_000_000_123), 250,
)  # fmt: skip


LEASED = replace(REPORT, refuses_after=60_000, is_leased=True)
WRONG_CLOCK = replace(LEASED, clock_offset=-2_400_000)
READS_3 = replace(WRONG_CLOCK, feed_format=3)


def signed(row: Any, magic: bytes = b"kwr1") -> bytes:
    """A row of any shape, signed as an edge would."""
    body = json.dumps(row).encode()
    return magic + hmac.digest(SIGNER._key, magic + body, "sha256") + body


def test_a_stored_sample_of_format_1_is_still_understood_and_written() -> None:
    assert SIGNER.decode(SAMPLE.read_bytes()) == REPORT
    assert SIGNER.encode(REPORT) == SAMPLE.read_bytes()


def test_what_format_1_has_no_place_for_is_told_in_format_2_and_read_back() -> None:
    for report in (LEASED, replace(REPORT, state=EdgeState.GONE), replace(REPORT, refuses_after=0)):
        assert SIGNER.encode(report)[:4] == b"kwr2"
        assert SIGNER.decode(SIGNER.encode(report)) == report
    assert SIGNER.decode(SAMPLE_2.read_bytes()) == LEASED
    assert SIGNER.encode(LEASED) == SAMPLE_2.read_bytes()


def test_how_far_a_clock_is_off_is_told_in_format_3_to_who_reads_that_and_read_back() -> None:
    for report in (replace(REPORT, clock_offset=0), replace(LEASED, clock_offset=-2_400_000)):
        assert SIGNER.encode(report, newest=3)[:4] == b"kwr3"
        assert SIGNER.decode(SIGNER.encode(report, newest=3)) == report
        assert SIGNER.decode(SIGNER.encode(report)) == replace(report, clock_offset=None)
    assert SIGNER.encode(LEASED, newest=3) == SAMPLE_2.read_bytes()
    assert SIGNER.decode(SAMPLE_3.read_bytes()) == WRONG_CLOCK
    assert SIGNER.encode(WRONG_CLOCK, newest=3) == SAMPLE_3.read_bytes()


def test_what_an_edge_reads_of_the_feed_is_told_in_format_4_to_who_reads_that_and_read_back() -> None:
    for report in (READS_3, replace(READS_3, clock_offset=None), replace(READS_3, is_format_unknown=True)):
        assert SIGNER.encode(report, newest=4)[:4] == b"kwr4"
        assert SIGNER.decode(SIGNER.encode(report, newest=4)) == report
        assert SIGNER.decode(SIGNER.encode(report, newest=3)) == replace(
            report, feed_format=None, is_format_unknown=False
        )
    assert SIGNER.decode(SAMPLE_4.read_bytes()) == READS_3
    assert SIGNER.encode(READS_3, newest=4) == SAMPLE_4.read_bytes()


@pytest.mark.parametrize(
    "more",
    [[], [3], [3, None], [3, 1], [None, True], [True, True], ["3", True], [0, True], [-3, False], [1001, False],
     [3, True, 1]],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("offset", [None, -40], ids=["clock-unknown", "clock-known"])
def test_a_format_of_another_form_is_refused_though_it_is_signed(offset: int | None, more: list[Any]) -> None:
    with pytest.raises(ReportError):
        SIGNER.decode(signed([*astuple(LEASED)[:13], offset, *more], b"kwr4"))


@pytest.mark.parametrize("more", [[], [None], [True], [1.5], ["1"], [10**15], [1, 1]], ids=str)
def test_an_offset_of_another_form_is_refused_though_it_is_signed(more: list[Any]) -> None:
    with pytest.raises(ReportError):
        SIGNER.decode(signed([*astuple(LEASED)[:13], *more], b"kwr3"))


@pytest.mark.parametrize(
    "more", [[], [1], [1, True, 1], [-1, True], [True, True], [1.5, False], [None, True], [1, 1], ["1", False]], ids=str
)
def test_a_promise_of_another_form_is_refused_though_it_is_signed(more: list[Any]) -> None:
    with pytest.raises(ReportError):
        SIGNER.decode(signed([*astuple(REPORT)[:11], *more], b"kwr2"))


def test_what_is_not_known_yet_is_told_as_such() -> None:
    starting = replace(REPORT, state=EdgeState.STARTING, cursor=None, lag=None, region="")
    assert SIGNER.decode(SIGNER.encode(starting)) == starting
    assert (starting.revision, REPORT.revision) == (None, 42)


def test_one_changed_byte_or_another_pepper_is_refused() -> None:
    data = SIGNER.encode(REPORT)
    for at in range(len(data)):
        with pytest.raises(ReportError):
            SIGNER.decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(ReportError, match="not made by an edge"):
        ReportSigner(Digester(bytes(32))).decode(data)
    for part in (b"", data[:3], data[:36], data[:-1], b"kwr2" + data[4:], data + b" " * MAX_BYTES):
        with pytest.raises(ReportError):
            SIGNER.decode(part)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (1, "short"), (1, "x" * 65), (1, "with space in it.."), (2, ""), (3, -1), (3, True), (3, "1"), (3, 1.0),
        (4, ""), (4, "x" * 65), (4, "two\nlines"), (4, "tab\t"), (4, "\x1b[31mred"), (4, "müller"),
        (4, "a,b"), (4, None),
        (5, "no spaces"), (5, None), (6, ""), (6, "1.0\r\nx: y"), (7, "gone"), (7, 1), (8, -1), (8, 10**15), (8, None),
        (9, 42), (9, [42]), (9, [42, "00112233aabbccdd"]), (9, [-1, "00112233aabbccdd", 1]), (9, ["42", "x", 1]),
        (9, [True, "00112233aabbccdd", 1]), (9, ["42", "00112233aabbccdd", 1]),
        (9, [42, "00112233aabbccdd", True]), (9, [10**18, "00112233aabbccdd", 1]), (10, -1), (10, False), (10, 0.5),
        (0, "with space"), (0, None),
    ],
)  # fmt: skip
def test_a_report_of_another_form_is_refused_though_it_is_signed(place: int, value: Any) -> None:
    row: list[Any] = list(astuple(REPORT)[:11])
    row[place] = value
    with pytest.raises(ReportError):
        SIGNER.decode(signed(row))


@pytest.mark.parametrize(
    "row", [None, {}, [], [1], "x", [*astuple(REPORT)[:11], 1], list(astuple(REPORT))[:10]], ids=str
)
def test_what_is_no_row_is_refused(row: Any) -> None:
    with pytest.raises(ReportError):
        SIGNER.decode(signed(row))


def test_no_api_key_and_no_frame_has_the_key_of_reports() -> None:
    assert not is_valid_custom(reports._KEY_LABEL)
    assert FrameSigner(DIGESTER)._key != SIGNER._key
