"""Owns how a limit is told in header fields: RateLimit-Policy and RateLimit, Retry-After, and the problem of a refusal.

draft-ietf-httpapi-ratelimit-headers-11: structured lists (RFC 9651) of strings with parameters. `q` is what a policy
lets through, in `w` seconds; `r` what is left of it, for the `t` seconds to come. A name is of `[a-z0-9_-]`, so that
nothing in it has to be escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keywright.domain.limit_states import find_retry_seconds, violated
from keywright.domain.problems import QuotaExceeded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from keywright.domain.limit_states import LimitState

POLICY_FIELD, STATE_FIELD = "ratelimit-policy", "ratelimit"
MOST_OF_FIELD = 999_999_999_999_999
"""RFC 9651 section 3.3.1: an Integer has at most 15 digits."""


def rate_limit_fields(states: Sequence[LimitState]) -> dict[str, str]:
    """The two fields, names in lower case; none where no limit holds."""
    if not states:
        return {}
    nearest = list(_nearest(states))
    return {
        POLICY_FIELD: ", ".join(f'"{state.name}";q={_integer(state.limit)}{_window(state)}' for state in nearest),
        STATE_FIELD: ", ".join(f'"{state.name}";r={_integer(state.remaining)}{_reset(state)}' for state in nearest),
    }


def refuse_limited(detail: str, states: Sequence[LimitState]) -> QuotaExceeded:
    """The 429, with its fields."""
    retry_seconds = find_retry_seconds(states)
    headers = rate_limit_fields(states)
    if retry_seconds is not None:
        headers = {"retry-after": str(retry_seconds), **headers}
    return QuotaExceeded(detail, headers=headers, members={"violated-policies": violated(states)})


def _nearest(states: Iterable[LimitState]) -> Iterable[LimitState]:
    """Of several of one name, a consumer's and its key's, the one that is nearest to its end."""
    by_name: dict[str, LimitState] = {}
    for state in states:
        kept = by_name.get(state.name)
        if kept is None or (not state.is_violated, state.remaining) < (not kept.is_violated, kept.remaining):
            by_name[state.name] = state
    return by_name.values()


def _window(state: LimitState) -> str:
    return f";w={state.window_seconds}" if state.window_seconds else ""


def _reset(state: LimitState) -> str:
    return f";t={_integer(state.reset_seconds)}" if state.reset_seconds else ""


def _integer(value: int) -> int:
    return min(value, MOST_OF_FIELD)
