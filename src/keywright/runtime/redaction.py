"""Owns taking secrets out of text that goes to a log: the one redactor, whatever the log's format.

It knows secrets by their form or by what they stand behind. A custom key that stands alone in a sentence has neither:
nothing may log one.
"""

from __future__ import annotations

import re

from keywright.domain.keyformat import mask_in

MASK = "****"
_VALUE = r"[^\s\"',;<>\\]+"
_CREDENTIAL = r"(?:(?:proxy-)?authorization|keywright-token)"
# In a header, or in the repr of a dictionary or a list of pairs, of text or of bytes; with its scheme, if there is one.
_HEADER = re.compile(
    rf"(?i)((?<![a-z0-9]){_CREDENTIAL}[\"']?\s*[:=,]\s*(?:b?[\"'])?)(?:[a-z][a-z0-9-]*[ \t]+)?" + _VALUE
)
_CREDENTIAL_NAME = re.compile(rf"(?i){_CREDENTIAL}|password")
_BEARER = re.compile(r"(?i)(?<![a-z0-9])(bearer[ \t]+)" + _VALUE)
_IN_URL = re.compile(r"(?i)(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*://)(?:([^\s/:@\"']*)(:))?[^\s/\"'<>]+@")


def redact(text: str) -> str:
    """The text without generated keys of any prefix, values of credential headers, and passwords in URLs."""
    text = _IN_URL.sub(lambda found: f"{found[1]}{found[2] or ''}{found[3] or ''}{MASK}@", text)
    return _BEARER.sub(rf"\g<1>{MASK}", _HEADER.sub(rf"\g<1>{MASK}", mask_in(text)))


def redact_value(value: object) -> object:
    """A value of a structured log without secrets: what is no text, number or container becomes text first."""
    match value:
        case str():
            return redact(value)
        case None | bool() | int() | float():
            return value
        case dict():
            return {redact(str(name)): _redact_named(name, one) for name, one in value.items()}
        case (str() | bytes() as name, one):
            return [redact_value(name), _redact_named(name, one)]
        case list() | tuple():
            return [redact_value(one) for one in value]
    return redact(repr(value))


def _redact_named(name: object, value: object) -> object:
    """The value of a member or a pair, or the mask where its name says that it is a credential."""
    text = name.decode("latin-1") if isinstance(name, bytes) else str(name)
    return MASK if _CREDENTIAL_NAME.fullmatch(text) else redact_value(value)
