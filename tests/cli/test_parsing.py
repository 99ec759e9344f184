"""What the user gives is understood or refused, never guessed at."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer

from keywright.cli.parsing import parse_expiry, parse_metadata, parse_since, parse_tags

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00.000Z"),
        ("2027-01-31T12:00:00.123456+02:00", "2027-01-31T10:00:00.123Z"),
        ("2027-01-31T12:00", "2027-01-31T12:00:00.000Z"),
        ("2027-01-31", "2027-01-31T00:00:00.000Z"),
        ("+30m", "2026-11-23T10:30:00.000Z"),
        ("+12h", "2026-11-23T22:00:00.000Z"),
        ("+7d", "2026-11-30T10:00:00.000Z"),
        ("+2w", "2026-12-07T10:00:00.000Z"),
        ("never", None),
    ],
)
def test_expiry_is_a_time_or_a_span_from_now(text: str, expected: str | None) -> None:
    assert parse_expiry(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "+7",
        "+d",
        "+-7d",
        "+7y",
        "7d",
        "tomorrow",
        "2027-13-01",
        "+²d",
        "+99999999999d",
        "0001-01-01T00:00+05:00",
    ],
)
def test_other_expiries_are_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_expiry(text, NOW)


def test_a_tag_value_may_hold_an_equals_sign_or_nothing() -> None:
    assert parse_tags(["a=b=c", "d="]) == {"a": "b=c", "d": ""}


@pytest.mark.parametrize("pair", ["a", "=b", ""])
def test_a_tag_without_a_name_or_a_value_is_refused(pair: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_tags([pair])


@pytest.mark.parametrize("text", ["", "[]", "1", "{", "null", "[" * 100_000])
def test_metadata_is_a_json_object(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_metadata(text)


def test_since_counts_back_from_now_or_is_a_time() -> None:
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    assert parse_since("90d", now) == "2026-08-31T12:00:00.000Z"
    assert parse_since("12h", now) == "2026-11-29T00:00:00.000Z"
    assert parse_since("2026-11-01") == "2026-11-01T00:00:00.000Z"
    for text in ("", "d", "90", "-5d", "90x", "never", "9999999999999d"):
        with pytest.raises(typer.BadParameter):
            parse_since(text, now)
