"""Owns how long texts may be and what an e-mail address looks like: the same through every door."""

from __future__ import annotations

import re

DESCRIPTION = 1000
TAG_NAME = 128
TAG_VALUE = 256
SUBJECT = 255
EMAIL_LENGTH = 320
# One @ with something on both sides: whether mail arrives is for the invite to show, not for a pattern.
EMAIL = r"^[^@\s\x00-\x1f\x7f-\x9f]{1,64}@[^@\s\x00-\x1f\x7f-\x9f]{1,255}$"


def is_email(address: str) -> bool:
    # As a whole: `$` would let a trailing line feed pass.
    return len(address) <= EMAIL_LENGTH and re.fullmatch(EMAIL[1:-1], address) is not None
