"""Owns how a policy comes to its source: given at once, made at the first use, or stood in for by a test's own."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from keywright.domain.verdict import Result


class Source(Protocol):
    """Where verdicts come from. A third parameter, `demand: keywright.domain.powers.Demand`, is given only where scopes
    are demanded or a client's address is known: a source without it can't be asked that. It may have more, which is
    used where it is there:

    `validate_async`, the same to be awaited: adapters with an event loop prefer it. A `validate` must not block a loop.
    `open` and `close` (or `close_async`), called before the first question and at the end of the application.
    """

    def validate(self, secret: str, bucket: str) -> Result: ...


SourceFactory = Callable[[], Source]
_made: weakref.WeakKeyDictionary[SourceFactory, Source] = weakref.WeakKeyDictionary()


def is_source(given: Source | SourceFactory) -> bool:
    """Whether it is a source itself, or else what makes one. Raises TypeError for what is neither."""
    if callable(getattr(given, "validate", None)) and not isinstance(given, type):
        check(given)
        return True
    if callable(given) and not inspect.iscoroutinefunction(given):
        return False
    raise TypeError("the source of a policy has validate(secret, bucket), or is a function that returns such a one")


def made_by(factory: SourceFactory) -> Source:
    """The one source of a factory in this process: policies that share the factory share it. Raises TypeError."""
    source = _made.get(factory)
    if source is None:
        source = factory()
        if not callable(getattr(source, "validate", None)):
            raise TypeError("the function that makes a policy's source returned none: it has no validate")
        check(source)
        # Threads that come first at once may make several. Nothing is open yet in any of them, and one is kept.
        source = _made.setdefault(factory, source)
    return source


def check(source: object) -> None:
    if inspect.iscoroutinefunction(getattr(source, "validate", None)):
        raise TypeError("validate is a plain function; one to be awaited is called validate_async")
