"""Owns how long texts may be, and what an e-mail address, a line and a web address look like, through every door."""

from __future__ import annotations

import re

DESCRIPTION = 1000
TAG_NAME = 128
TAG_VALUE = 256
SUBJECT = 255
EMAIL_LENGTH = 320
# One @ with something on both sides: whether mail arrives is for the invite to show, not for a pattern.
EMAIL = r"^[^@\s\x00-\x1f\x7f-\x9f]{1,64}@[^@\s\x00-\x1f\x7f-\x9f]{1,255}$"
# Control characters and what ends a line would spoil a page, and what turns the direction of writing would forge it.
_SPOILING = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_BLANK = r" \xa0\u1680\u2000-\u200a\u202f\u205f\u3000\ufeff"
LINE = rf"^[^{_SPOILING}]*[^{_SPOILING}{_BLANK}][^{_SPOILING}]*$"
"""One line with something to see on it."""
# http and https, so that no link runs a script; no user, whose name could look like the host; and nothing that could
# end the quotes around it or be run in a shell: $, quotes, backslash and the like.
WEB_ADDRESS = (
    r"^[Hh][Tt][Tt][Pp][Ss]?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
    r"([/?#][!#%&()*-;=?-\[\]_a-z~]*)?$"
)


def is_whole(pattern: str, value: str) -> bool:
    """Whether all of a text matches; `$` would let a trailing line feed pass."""
    return re.fullmatch(pattern[1:-1], value) is not None


def is_email(address: str) -> bool:
    return len(address) <= EMAIL_LENGTH and is_whole(EMAIL, address)
