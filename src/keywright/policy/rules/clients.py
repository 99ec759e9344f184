"""Owns where an application has its clients' addresses from, for keys with `allowedIps`: its own connections, or what
a trusted proxy before it says in one header. Nothing of that is on unless it is asked for.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from keywright.domain.identity_headers import check_address_header
from keywright.domain.networks import Networks, parse_address, parse_proxies
from keywright.http.client_address import ClientAddresses, UnknownAddress, plain
from keywright.http.sparing_log import SparingLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keywright.domain.networks import Address

_log = logging.getLogger(__name__)

CONNECTION = "connection"


class AppClients:
    """Finds the addresses of those who ask an application."""

    def __init__(self, client_address: str, trusted_proxies: Sequence[str]) -> None:
        """`client_address` is CONNECTION, or the name of the header. Raises TypeError, ValueError."""
        if isinstance(trusted_proxies, str):
            raise TypeError("trusted_proxies is a list of networks, not one")
        is_direct = client_address == CONNECTION
        if is_direct == bool(trusted_proxies):
            raise ValueError(
                "trusted_proxies goes with a client_address that names their header, and the other way round"
            )
        if not is_direct:
            try:
                check_address_header(client_address)
            except ValueError as error:
                raise ValueError(f"client_address {error}") from None
        self._addresses = ClientAddresses(_networks(trusted_proxies), "" if is_direct else client_address.lower())
        self.header = self._addresses.header
        """In lower case; empty where there is none to look at."""
        self._spoken = SparingLog(_log, time.monotonic)

    def find(self, peer: str, values: Sequence[str]) -> Address | None:
        """Who asks, of `peer`'s connection and all values of the header; None when that is not known."""
        peer = plain(peer)
        try:
            if self.header and self._addresses.is_trusted(peer):
                return self._addresses.find_told(peer, values)
            address = parse_address(peer)
            if address is None:
                raise UnknownAddress("the server tells no address of the connection")
        except UnknownAddress as unknown:
            self._spoken.note(f"keys with allowedIps are refused, as a client's address is not known: {unknown}")
            return None
        return address


def _networks(texts: Sequence[str]) -> Networks:
    try:
        return Networks([network for text in texts for network in parse_proxies(text)])
    except ValueError as error:
        raise ValueError(f"trusted_proxies: {error}") from None
