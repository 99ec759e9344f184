"""Owns the client's address: whose connection it is or, behind proxies that are trusted, whom they say they ask for.

Both planes count, refuse and log by it. The one header that KEYWRIGHT_CLIENT_ADDRESS_HEADER names is believed from the
networks of KEYWRIGHT_TRUSTED_PROXIES alone, and no other header from anybody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from keywright.domain.networks import Address, Networks, parse_address
from keywright.domain.problems import BadRequest

FORWARDED_FOR = "x-forwarded-for"
"""The one header that is a list: each proxy adds whom it was asked by, so that the right end is the nearest."""
MAX_KEPT = 10_000


class OddAddress(BadRequest):
    """A trusted proxy has sent something that is no address: nobody can tell who asks."""


class UnknownAddress(Exception):
    """Nobody here can tell for whom a proxy asks. The text says why, with nothing of what was sent."""


@dataclass(frozen=True, slots=True)
class ClientAddresses:
    """Tells the client's address of each request. Without `trusted` networks it is always the peer's."""

    trusted: Networks = field(default_factory=lambda: Networks(()))
    header: str = ""
    """In lower case; empty where no header is believed."""
    _is_trusted: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)
    """Peers that were looked at: there are few, and each asks again and again."""

    def find(self, scope: Mapping[str, Any]) -> str:
        """The address that an ASGI scope's request comes from; empty where the server tells none. Raises OddAddress."""
        client = scope.get("client")
        peer = plain(client[0]) if client else ""
        if not self.header or not self.is_trusted(peer):
            return peer
        values = self.values_in(scope["headers"])
        # Without any the proxy itself asks, as for its health checks.
        return str(self._read(values)) if values else peer

    def find_told(self, peer: str, values: Sequence[str]) -> Address:
        """For whom a trusted proxy says that it asks; `values` are all that it sent in the header.

        The peer's own address never stands in for that. Raises UnknownAddress.
        """
        if not self.header:
            raise UnknownAddress("no header is named that would tell it")
        if not self.is_trusted(peer):
            raise UnknownAddress(f"{peer or 'whoever asks'} is not among the trusted proxies")
        if not values:
            raise UnknownAddress(f"there is no {self.header} header from {peer}")
        try:
            return self._read(values)
        except OddAddress as odd:
            raise UnknownAddress(f"{peer} sent something else: {odd.detail}") from None

    def values_in(self, headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
        """All values of the one header that is believed, of a request's headers in lower case."""
        wanted = self.header.encode()
        return [value.decode("latin-1") for name, value in headers if name == wanted]

    def is_trusted(self, peer: str) -> bool:
        """Whether a connection from this address is a trusted proxy's."""
        known = self._is_trusted.get(peer)
        if known is None:
            address = parse_address(peer)
            known = address is not None and self.trusted.hold(address)
            if len(self._is_trusted) >= MAX_KEPT:
                self._is_trusted.clear()
            self._is_trusted[peer] = known
        return known

    def _read(self, values: Sequence[str]) -> Address:
        if self.header == FORWARDED_FOR:
            return self._nearest_stranger(",".join(values).split(","))
        if len(values) > 1:
            raise OddAddress(f"There is more than one {self.header} header.")
        return self._parse(values[0])

    def _nearest_stranger(self, hops: Sequence[str]) -> Address:
        """Hop by hop from the right over our own proxies: what stands left of the first other one is hearsay."""
        address = self._parse(hops[-1])
        for text in reversed(hops[:-1]):
            if not self.trusted.hold(address):
                break
            address = self._parse(text)
        return address

    def _parse(self, text: str) -> Address:
        address = parse_address(text.strip(" \t"))
        if address is None:
            rule = "a list of IP addresses" if self.header == FORWARDED_FOR else "one IP address"
            raise OddAddress(f"The {self.header} header must hold {rule}, without ports.")
        return address


def network_of(address: str) -> str:
    """What is counted as one client: of IPv6 the /64, which one customer has all of."""
    found = parse_address(address.partition("%")[0])
    if found is None:
        return address
    if found.is_ipv6:
        return str(ipaddress.ip_network((found.number, 64), strict=False))
    return str(found)


def plain(peer: str) -> str:
    """A peer's address as one text, however its socket tells it: without zone, IPv4 as IPv4 on an IPv6 socket, too."""
    if ":" not in peer:
        return peer
    return str(parse_address(peer.partition("%")[0]) or peer)


def grpc_peer(peer: str) -> tuple[str, int] | None:
    """Address and port of what gRPC tells as ipv4:127.0.0.1:50000 and ipv6:%5B::1%5D:50000; None for other sockets."""
    address, _, port = unquote(peer.partition(":")[2]).rpartition(":")
    return (plain(address.strip("[]")), int(port)) if port.isdecimal() else None
