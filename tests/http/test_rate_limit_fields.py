"""How limits are told in fields: byte by byte."""

from __future__ import annotations

import pytest

from keywright.domain.limit_states import LimitState
from keywright.http.rate_limit_fields import rate_limit_fields, refuse_limited

BURST, DAILY = LimitState("burst", 100, 60, 0, 17, True, 17), LimitState("daily", 1000, 86_400, 412, 36_000)


def test_fields_are_lists_of_strings_with_whole_numbers() -> None:
    assert rate_limit_fields([BURST, DAILY]) == {
        "ratelimit-policy": '"burst";q=100;w=60, "daily";q=1000;w=86400',
        "ratelimit": '"burst";r=0;t=17, "daily";r=412;t=36000',
    }


def test_what_has_no_window_or_no_reset_says_none() -> None:
    full, quota = LimitState("burst", 5, 60, 5, 0), LimitState("total", 10**18, None, 10**17, 0)
    assert rate_limit_fields([full, quota]) == {
        "ratelimit-policy": '"burst";q=5;w=60, "total";q=999999999999999',
        "ratelimit": '"burst";r=5, "total";r=999999999999999',
    }


def test_without_limits_there_are_no_fields() -> None:
    assert rate_limit_fields([]) == {}


def test_of_two_of_one_name_the_one_nearest_to_its_end_is_told() -> None:
    wide = LimitState("burst", 500, 60, 499, 1)
    for states in ([BURST, wide], [wide, BURST]):
        assert rate_limit_fields(states)["ratelimit"] == '"burst";r=0;t=17'


@pytest.mark.parametrize(
    ("states", "retry_after", "names"),
    [
        ([BURST, DAILY], "17", ["burst"]),
        ([BURST, DAILY._replace(is_violated=True, retry_seconds=36_000)], "36000", ["burst", "daily"]),
        ([BURST._replace(retry_seconds=0)], "1", ["burst"]),
        ([BURST, DAILY._replace(is_violated=True, retry_seconds=None)], None, ["burst", "daily"]),
        ([], "1", []),
    ],
)
def test_a_refusal_says_which_were_violated_and_when_to_come_back(
    states: list[LimitState], retry_after: str | None, names: list[str]
) -> None:
    problem = refuse_limited("Too often.", states)
    assert problem.headers.get("retry-after") == retry_after
    document = problem.to_document()
    assert document == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Quota Exceeded",
        "status": 429,
        "violated-policies": names,
        "detail": "Too often.",
    }
