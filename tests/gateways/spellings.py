"""Names that a gateway takes for different headers, and many an API for the same one."""

from __future__ import annotations

import itertools


def spellings(name: str) -> list[str]:
    """The name with each mixture of -, _ and . between its words, in several cases."""
    words = name.split("-")
    found = []
    for marks in itertools.product("-_.", repeat=len(words) - 1):
        spelt = words[0] + "".join(mark + word for mark, word in zip(marks, words[1:], strict=True))
        found += [spelt, spelt.lower(), spelt.upper()]
    return found
