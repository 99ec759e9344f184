"""Which scopes cover which, against the plain reading of the rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain.scopes import MAX_LENGTH, SCOPE, Scopes
from keywright.domain.text import is_whole

parts = st.text("ab", min_size=1, max_size=2)
scopes = st.builds(
    lambda head, last: ":".join([*head, last]), st.lists(parts, max_size=3), st.one_of(parts, st.just("*"))
)


def covers_plainly(granted: str, demanded: str) -> bool:
    have, want = granted.split(":"), demanded.split(":")
    if have[-1] != "*":
        return have == want
    return len(want) >= len(have) and want[: len(have) - 1] == have[:-1]


@given(st.lists(scopes, max_size=4), scopes)
def test_scopes_cover_what_one_of_them_covers(granted: list[str], demanded: str) -> None:
    assert Scopes(granted).covers(demanded) is any(covers_plainly(each, demanded) for each in granted)


@given(st.lists(scopes, max_size=4), st.lists(scopes, max_size=4))
def test_of_several_that_are_demanded_all_must_be_covered(granted: list[str], demanded: list[str]) -> None:
    held = Scopes(granted)
    assert held.cover_all(tuple(demanded)) is all(held.covers(each) for each in demanded)


@pytest.mark.parametrize("scope", ["a", "*", "a:*", "a:b:c", "A.b-c_9", "orders:read", "a:b:*"])
def test_the_form_of_a_scope(scope: str) -> None:
    assert is_whole(SCOPE, scope)


@pytest.mark.parametrize("text", ["", ":", "a:", ":a", "a::b", "**", "a*", "*:a", "a:*:b", "a b", "a,b", "é", "a\n"])
def test_what_is_no_scope(text: str) -> None:
    assert not is_whole(SCOPE, text)


def test_a_scope_of_the_greatest_length_is_judged_soon() -> None:
    longest = ":".join("a" * (MAX_LENGTH // 2))
    assert Scopes(["a:*"]).covers(longest)
    assert not is_whole(SCOPE, longest + "!")
