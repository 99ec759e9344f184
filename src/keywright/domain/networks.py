"""Owns how IP addresses and networks are read from text: one spelling each, and nothing that two parsers read apart.

Networks that many questions are asked of are compiled into integers: `ipaddress` would cost each validation more than
all else does together. An IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is the IPv4 address.
"""

from __future__ import annotations

import ipaddress
import socket
from bisect import bisect_right
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

MAX_NETWORKS = 50
"""In one list of networks that a key or a consumer may be used from."""
_MAPPED = bytes(10) + b"\xff\xff"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Address(NamedTuple):
    is_ipv6: bool
    number: int

    def __str__(self) -> str:
        """The address in its one form (RFC 5952)."""
        return str(ipaddress.IPv6Address(self.number) if self.is_ipv6 else ipaddress.IPv4Address(self.number))


class Networks:
    """Networks of both families, ready to be asked. Immutable."""

    __slots__ = ("_ipv4", "_ipv6", "texts")

    def __init__(self, networks: Collection[Network]) -> None:
        self.texts = tuple(map(str, networks))
        self._ipv4 = _bounds([network for network in networks if network.version == 4])
        self._ipv6 = _bounds([network for network in networks if network.version == 6])

    def hold(self, address: Address) -> bool:
        is_ipv6, number = address
        # As many bounds are passed on the way to the number as ranges have begun and ended there, but for one inside.
        return bool(bisect_right(self._ipv6 if is_ipv6 else self._ipv4, number) & 1)


def parse_address(text: str) -> Address | None:
    """The address; None for anything else: a name, a port, a mask, a zone, an octet with a leading zero, several."""
    try:
        if ":" not in text:
            return Address(False, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big"))
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        # ValueError: a NUL, or what can't be encoded.
        return None
    if packed.startswith(_MAPPED):
        return Address(False, int.from_bytes(packed[12:], "big"))
    return Address(True, int.from_bytes(packed, "big"))


@lru_cache(maxsize=10_000)
def network_around(address: Address) -> str:
    """The /24 or /48 that the address is in: where it comes from, and of nobody's own."""
    bits = 80 if address.is_ipv6 else 8
    start = Address(address.is_ipv6, address.number >> bits << bits)
    return f"{start}/{48 if address.is_ipv6 else 24}"


def parse_network(text: str) -> Network:
    """A network in CIDR notation, or an address alone. Raises ValueError, with the rule that is broken."""
    if "%" in text:
        raise ValueError("must have no zone")
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(_what_is_wrong(text)) from None
    mask = text.partition("/")[2]
    # ipaddress takes 10.0.0.0/255.0.0.0 as well, and the same with all bits turned.
    if mask and not mask.isdecimal():
        raise ValueError(_FORM)
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError("must be written as IPv4, not as IPv6 that holds it")
    return network


def parse_proxies(text: str) -> tuple[Network, ...]:
    """The networks of trusted proxies, with commas between. Raises ValueError, with the rule that is broken."""
    found = []
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        try:
            network = parse_network(part)
        except ValueError as error:
            raise ValueError(f"{part[:50]!r} {error}") from None
        if network.prefixlen == 0:
            raise ValueError(f"must name your proxies; {part[:50]!r} is everybody, who could then take any address")
        found.append(network)
    return tuple(found)


_FORM = "must be an address or a network in CIDR notation, such as 192.0.2.0/24 or 2001:db8::/32"


def _what_is_wrong(text: str) -> str:
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return _FORM
    return f"has bits set behind its prefix: {meant} is meant, or {text.partition('/')[0]} alone"


def _bounds(networks: Collection[Network]) -> list[int]:
    """Where ranges of addresses begin, and the numbers behind their ends, in turn; ranges that touch are one."""
    bounds: list[int] = []
    for first, last in sorted((int(network.network_address), int(network.broadcast_address)) for network in networks):
        if bounds and first <= bounds[-1]:
            bounds[-1] = max(bounds[-1], last + 1)
        else:
            bounds += (first, last + 1)
    return bounds
