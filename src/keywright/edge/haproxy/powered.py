"""Owns how keys and consumers with powers are written for HAProxy, and telling of buckets that it can't judge whole.

keys3       bucket's number.digest  -> key id | consumer's number | end | on, off | scopes | networks
consumers3  number                  -> consumer id | name | metadata | on, off | scopes | networks
buckets3    number                  -> the scopes that consumers have of which none are said

They stand in maps of their own, which a configuration of before does not ask, so that it refuses such a key. Scopes are
`+a+b+`: one that holds `+a+` has `a`. Networks are `first-last+first-last`, each address as hexadecimal digits behind
4 or 6, its family: so they are compared as text. There are none where nothing is said.
"""

from __future__ import annotations

import logging
from ipaddress import ip_network
from typing import TYPE_CHECKING

from keywright.domain.powers import FEATURES, UnknownPower, decode_powers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from keywright.domain.powers import Powers
    from keywright.protocol.changes import BucketPut

_log = logging.getLogger(__name__)

MOST_NETWORKS = 8
"""In one list: for each there is a place in the configuration."""
UNJUDGED = "?"
"""In place of what HAProxy can't judge."""
ALL = "+*+"
NONE = "none"
INHERITED = "inherited"


def append(place: str, powers: str, scopes_unsaid: str) -> str:
    """A record's value: `place`, and behind it its powers. UNJUDGED where there are some that nobody here knows, and
    where something is counted, or a plan may say that it is.
    """
    try:
        said = decode_powers(powers)
    except (UnknownPower, ValueError):
        return UNJUDGED
    if said.plan is not None or said.has_limits:
        return UNJUDGED
    scopes = scopes_unsaid if said.scopes is None else scopes_value(said.scopes.names)
    value = f"{place}|{'on' if said.is_enabled else 'off'}|{scopes}"
    networks = _networks_value(said)
    return value if networks is None else f"{value}|{networks}"


def scopes_value(names: Collection[str]) -> str:
    return f"+{'+'.join(sorted(names))}+" if names else NONE


def is_unjudged(value: str) -> bool:
    return value.endswith(UNJUDGED)


def is_known(bucket: BucketPut) -> bool:
    """Whether this version knows all that its keys may have."""
    return FEATURES.issuperset(bucket.features)


class Telling:
    """Says of each bucket, once for each reason, that some of its keys get no answer from HAProxy."""

    def __init__(self) -> None:
        self._told: set[tuple[int, str]] = set()

    def tell(self, numbers: Iterable[int], buckets: Mapping[int, BucketPut], *, has_maps: bool) -> None:
        """`numbers` are buckets in which there was something that HAProxy can't judge."""
        for number in numbers:
            if number in buckets:
                self._tell_once(
                    buckets[number], "more powers than it can judge, let another gateway ask an edge for them"
                )
        for bucket in buckets.values():
            if not is_known(bucket):
                self._tell_once(bucket, "powers that this version does not know")
            if bucket.features and not has_maps:
                self._tell_once(bucket, "powers, and its configuration has no keywright-keys3.map: take the newer one")

    def _tell_once(self, bucket: BucketPut, why: str) -> None:
        if (bucket.number, why) not in self._told:
            self._told.add((bucket.number, why))
            _log.warning("HAProxy refuses keys of bucket %s that have %s", bucket.name, why)


def _networks_value(powers: Powers) -> str | None:
    if powers.networks is None:
        return None
    texts = powers.networks.texts
    return UNJUDGED if len(texts) > MOST_NETWORKS else "+".join(map(_range, texts))


def _range(text: str) -> str:
    network = ip_network(text)
    first, last = (f"{network.version}{address.packed.hex().upper()}" for address in (network[0], network[-1]))
    return f"{first}-{last}"
