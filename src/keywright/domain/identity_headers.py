"""Owns the names of the headers that tell an API behind a gateway who its consumer is. A deployment may choose others.
And what may be the name of a header that one chooses.

Whoever sends one of them past a gateway made it up: gateways, and the policy in an app, take them out of the request.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# Letters, digits and hyphens, though HTTP allows more: gateways drop other names, or take X_User and X-User for two
# headers where what is behind them sees one.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_TAKEN = re.compile(
    "authorization|cache-control|connection|content-length|content-type|cookie|date|host|keep-alive|keywright-token|"
    "min-revision|proxy-.*|retry-after|server|set-cookie|te|trailer|transfer-encoding|upgrade|www-authenticate|"
    "x-request-id"
)


class IdentityHeaders(NamedTuple):
    """One name for each thing that is told, in lower case and in the order in which they are told."""

    consumer_name: str = "x-consumer-name"
    consumer_id: str = "x-consumer-id"
    key_id: str = "x-key-id"
    consumer_metadata: str = "x-consumer-metadata"
    consumer_token: str = "x-consumer-token"  # noqa: S105
    key_scopes: str = ""
    key_metadata: str = ""
    """These two are told only where a deployment names them: a gateway's file must remove a client's own first."""

    def told(self) -> list[str]:
        """The names of those that are told, in order."""
        return [name for name in self if name]


IDENTITY_HEADERS = IdentityHeaders()
"""The names where none are chosen."""
ALL_IDENTITY_HEADERS = IDENTITY_HEADERS._replace(key_scopes="x-key-scopes", key_metadata="x-key-metadata")
"""What each of them is called, told or not."""
DEFAULT_MAX_BYTES = 12_000
"""What the files for gateways carry of an identity. HAProxy and nginx have it in buffers of a fixed size."""
_OTHER_BYTES = 1536
"""The names of headers, ids, a consumer's name (in a header and in the token), the token's claims and signature."""


def identity_bytes(metadata: str, key_metadata: str | None = None, scopes: Collection[str] = ()) -> int:
    """The most that a consumer with this metadata (JSON) takes in these headers, with a token, too.

    A key of it may have metadata of its own, and scopes: at most those that are granted to both.
    """
    in_headers, in_token = len(quote(metadata, safe="")), len(json.dumps(json.loads(metadata)))
    if key_metadata is not None:
        in_headers += len(quote(key_metadata, safe=""))
        in_token += len(json.dumps(json.loads(key_metadata)))
    spoken = len(" ".join(scopes))
    return in_headers + spoken + (4 * (in_token + spoken) + 2) // 3 + _OTHER_BYTES


def is_header_name(text: str) -> bool:
    return _NAME.fullmatch(text.lower()) is not None


def check_address_header(text: str) -> None:
    """Raise ValueError, with the rule that is broken, for what can't be the header with a client's address."""
    if not is_header_name(text):
        raise ValueError(f"must be a header's name of letters, digits and hyphens, 64 at most, not {text[:80]!r}")
    if text.lower() == "forwarded":
        raise ValueError("can't be Forwarded: have the proxy send X-Forwarded-For, or a header with one address")


def rename(pairs: Iterable[str], key_header: str) -> IdentityHeaders:
    """The names after `X-Consumer-Name=X-User-Id` and so on; ValueError says what is wrong with them.

    What is told only where it is named may also be named alone: `X-Key-Scopes`. `key_header` is the one that holds the
    key, which no answer may replace.
    """
    chosen = dict(zip(ALL_IDENTITY_HEADERS, IDENTITY_HEADERS, strict=True))
    for pair in pairs:
        old, is_renamed, new = (part.strip().lower() for part in pair.partition("="))
        if old not in chosen:
            raise ValueError(
                f"renames {', '.join(ALL_IDENTITY_HEADERS)}, such as X-Consumer-Name=X-User-Id, not {old[:80]!r}"
            )
        if not is_renamed and old not in IDENTITY_HEADERS:
            new = old
        if not is_header_name(new):
            raise ValueError(f"must name headers by letters, digits and hyphens, 64 at most, not {new[:80]!r}")
        if _TAKEN.fullmatch(new) or new == key_header.lower():
            raise ValueError(f"can't use {new!r}, which has a meaning of its own")
        chosen[old] = new
    names = [name for name in chosen.values() if name]
    if len(set(names)) < len(names):
        raise ValueError("would give two headers the same name")
    return IdentityHeaders(*chosen.values())
