"""Owns how attempts to sign in are counted, so that whoever tries is slowed down and shuts nobody else out.

What is counted is a failure: an attempt takes its place beforehand, so that of many at once none comes for free, and
gets it back when it succeeds. Each browser has a few of its own, and only what it may still do is taken from its
address. A browser in which somebody signed in before does not stand in line with the strangers of its address at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from keywright.domain.problems import Problem, TooManyRequests
from keywright.http.client_address import network_of
from keywright.origin.pipeline.rate_limit import RateLimiter, check_rate, detail_of

Count = tuple[RateLimiter, str]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who tries to sign in. `known` is the name of a browser in which that was done before, empty for a stranger's."""

    browser: str
    address: str
    known: str = ""

    @property
    def network(self) -> str:
        return network_of(self.address)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often one name may fail: `burst` times at once, and `per_second` in the long run."""

    per_second: float
    burst: int

    def new(self) -> RateLimiter:
        return RateLimiter(self.per_second, self.burst)


@dataclass(frozen=True, slots=True, eq=False)
class AttemptLimit:
    """How often one way to sign in may fail: in one browser, and in all browsers of strangers at one address."""

    browser: Pace
    address: Pace
    message: str

    def new(self) -> Attempts:
        return Attempts(self)


class Attempts:
    """The failures of one way to sign in, counted in this process."""

    def __init__(self, limit: AttemptLimit) -> None:
        self._detail = detail_of(limit.message)
        self._known, self._browser, self._address = limit.browser.new(), limit.browser.new(), limit.address.new()

    @contextmanager
    def judging(self, attempt: Attempt) -> Iterator[None]:
        """Around the judgement of an attempt, which raises if it fails. Raises TooManyRequests instead of it."""
        if attempt.known:
            counts: tuple[Count, ...] = ((self._known, attempt.known),)
        else:
            counts = ((self._browser, attempt.browser), (self._address, attempt.network))
        _take(self._detail, *counts)
        try:
            yield
        except BaseException as error:
            # What could not be judged has not failed.
            if not isinstance(error, Problem) or error.status >= 500:
                _give_back(*counts)
            raise
        _give_back(*counts)


@dataclass(frozen=True, slots=True, eq=False)
class LetterLimit:
    """How many sign-in links may be asked for that nobody uses.

    `mailbox` is for all who ask for one mailbox, `network` for those of one network among them. A browser that asks for
    that mailbox for the first time has one at `first`, however often others of its network did.
    """

    browser: Pace
    address: Pace
    mailbox: Pace
    network: Pace
    first: Pace
    message: str

    def new(self) -> Letters:
        return Letters(self)


class Letters:
    """The sign-in links that were asked for and not used, counted in this process."""

    def __init__(self, limit: LetterLimit) -> None:
        self._detail = detail_of(limit.message)
        self._known, self._browser, self._address = limit.network.new(), limit.browser.new(), limit.address.new()
        self._mailbox, self._network, self._first = limit.mailbox.new(), limit.network.new(), limit.first.new()

    def take(self, attempt: Attempt, mailbox: str) -> None:
        """Counts a link that is asked for. Raises TooManyRequests."""
        *shared, own = self._counts(attempt, mailbox)
        try:
            _take(self._detail, *shared, own)
        except TooManyRequests:
            if attempt.known:
                raise
            _take(self._detail, *shared, (self._first, f"{mailbox}\n{attempt.browser}"))

    def give_back(self, attempt: Attempt, mailbox: str) -> None:
        """The link was used: it went to the right one."""
        _give_back(*self._counts(attempt, mailbox))

    def _counts(self, attempt: Attempt, mailbox: str) -> tuple[Count, ...]:
        if attempt.known:
            return ((self._known, attempt.known),)
        return (
            (self._browser, attempt.browser),
            (self._address, attempt.network),
            (self._mailbox, mailbox),
            (self._network, f"{mailbox}\n{attempt.network}"),
        )


def _take(detail: str, *counts: Count) -> None:
    """All of it or nothing."""
    taken: list[Count] = []
    try:
        for limiter, name in counts:
            check_rate(limiter, name, detail)
            taken.append((limiter, name))
    except TooManyRequests:
        _give_back(*taken)
        raise


def _give_back(*counts: Count) -> None:
    for limiter, name in counts:
        limiter.give_back(name)
