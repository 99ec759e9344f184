"""Owns how long texts may be, and what an e-mail address, a line and a web address look like, whoever sends them."""

from __future__ import annotations

import re

DESCRIPTION = 1000
TAG_NAME = 128
TAG_VALUE = 256
SUBJECT = 255
EMAIL_LENGTH = 320
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
# RFC 5322 section 3.4.1, of which only what has one reading: the dot-atom. A comment, quotes or a last dot would be
# dropped on the way to the mailbox, and a letter that is not ASCII become another one: `victim(1)@`, `"victim"@` and
# `victim@` are three users and one mailbox. The host of another script is written as the network has it (xn--...).
# A mailbox has at most 64 characters (RFC 5321, 4.5.3.1.1), here not counting its dots, so that the pattern says all.
EMAIL = rf"^{_ATEXT}(\.?{_ATEXT}){{0,63}}@{_LABEL}(\.{_LABEL})*$"
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
    """Whether a text is an address that every parser reads as itself, so that one user is one mailbox."""
    return len(address) <= EMAIL_LENGTH and is_whole(EMAIL, address)
