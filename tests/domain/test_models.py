"""How ids and times look, and that no time moves into the future."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain import models
from keywright.domain.models import IdKind

MOMENTS = st.datetimes(timezones=st.just(UTC))


@pytest.mark.parametrize("kind", IdKind)
def test_an_id_is_its_kind_and_base62(kind: IdKind) -> None:
    length = 32 if kind is IdKind.BUCKET else 24
    made = {models.new_id(kind, secrets.token_bytes) for _ in range(500)}
    assert len(made) == 500
    assert all(re.fullmatch(rf"{kind}_[0-9A-Za-z]{{{length}}}", id) for id in made)
    # Every character is drawn, none of them all the time.
    assert len({character for id in made for character in id.removeprefix(f"{kind}_")}) == 62


@pytest.mark.parametrize("fill", [0x00, 0xFF])
def test_an_id_has_its_length_whatever_was_drawn(fill: int) -> None:
    assert len(models.new_id(IdKind.KEY, lambda count: bytes([fill]) * count)) == len("key_") + 24


@pytest.mark.parametrize(
    ("moment", "millis", "text"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), -62135596800000, "0001-01-01T00:00:00.000Z"),
        (datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), -1, "1969-12-31T23:59:59.999Z"),
        (datetime(1970, 1, 1, tzinfo=UTC), 0, "1970-01-01T00:00:00.000Z"),
        (datetime(2027, 1, 31, 12, 0, 0, 999, tzinfo=UTC), 1801396800000, "2027-01-31T12:00:00.000Z"),
        (datetime(2027, 1, 31, 12, 0, 0, 999999, tzinfo=UTC), 1801396800999, "2027-01-31T12:00:00.999Z"),
        (datetime(2027, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))), 1801389600000, "2027-01-31T10:00:00.000Z"),
        (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), 253402300799999, "9999-12-31T23:59:59.999Z"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_times_are_cut_to_the_millisecond_and_never_rounded(moment: datetime, millis: int, text: str) -> None:
    assert models.to_millis(moment) == millis
    assert models.to_iso(moment) == text
    assert models.to_iso(models.from_millis(millis)) == text


@given(MOMENTS)
def test_a_stored_time_is_the_same_millisecond_and_never_later(moment: datetime) -> None:
    back = models.from_millis(models.to_millis(moment))
    assert timedelta(0) <= moment - back < timedelta(milliseconds=1)
    assert models.to_millis(back) == models.to_millis(moment)
    assert models.to_iso(back) == models.to_iso(moment)
    assert datetime.fromisoformat(models.to_iso(moment)) == back


@given(MOMENTS, MOMENTS)
def test_the_order_of_times_is_kept(one: datetime, other: datetime) -> None:
    if one <= other:
        assert models.to_millis(one) <= models.to_millis(other)
        assert models.to_iso(one) <= models.to_iso(other)
