"""Owns for whom a gateway asks: the address that keys with `allowedIps` are judged by at forward-auth and over gRPC.

Whoever is connected there is the gateway, so that no connection's own address is ever taken for a client's: only what
a trusted proxy says in the one header that is named (http/client_address.py). Without that no address is known, and
such a key is refused; an operator finds out why in the log and in /readyz.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from keywright.http.client_address import UnknownAddress, plain
from keywright.http.sparing_log import SparingLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from keywright.domain.networks import Address
    from keywright.http.client_address import ClientAddresses

_log = logging.getLogger(__name__)

WARN_SECONDS = 600.0
"""How long /readyz tells of a key that was refused because nobody knew the client's address."""
_SETTINGS = "KEYWRIGHT_TRUSTED_PROXIES and KEYWRIGHT_CLIENT_ADDRESS_HEADER name gateways and the header they overwrite"


class GatewayClients:
    """Finds the addresses of the clients of gateways. One for each worker."""

    def __init__(self, addresses: ClientAddresses, elapsed: Callable[[], float]) -> None:
        """`elapsed` counts seconds (`Clock.elapsed`)."""
        self._addresses = addresses
        self._elapsed = elapsed
        self._spoken = SparingLog(_log, elapsed)
        self._why = ""
        self._unknown_at = -math.inf

    def find_in(self, scope: Mapping[str, Any]) -> Address | None:
        """For whom the request of an ASGI scope was sent; None when that is not known."""
        client = scope.get("client")
        peer = plain(client[0]) if client else ""
        return self._find(peer, self._addresses.values_in(scope["headers"]))

    def find_behind(self, gateway: str, source: str, list_values: Callable[[str], Sequence[str]]) -> Address | None:
        """For whom a gateway asks that says, beside the headers of its client, whose connection that is.

        `source` is that connection's peer. Only where it is a trusted proxy, too, do the client's headers count: those
        of any other client may be made up, while its connection is not. `list_values` gives the headers of a name.
        """
        addresses = self._addresses
        if not addresses.header or not addresses.is_trusted(gateway):
            return self._find(gateway, [])
        if not source:
            self._note(f"{gateway} did not say whose connection it asks about")
            return None
        if addresses.is_trusted(source):
            return self._find(source, list_values(addresses.header))
        return self._find(gateway, [source])

    def list_warnings(self) -> list[str]:
        """What is wrong, in a sentence, while a key was refused for it lately."""
        return [self._why] if self._elapsed() - self._unknown_at < WARN_SECONDS else []

    def _find(self, peer: str, values: Sequence[str]) -> Address | None:
        try:
            return self._addresses.find_told(peer, values)
        except UnknownAddress as unknown:
            self._note(str(unknown))
            return None

    def _note(self, reason: str) -> None:
        refused = "keys with allowedIps are refused, and no networks recorded"
        self._why = f"{refused}, as a client's address is not known: {reason}; {_SETTINGS}"
        self._unknown_at = self._elapsed()
        self._spoken.note(self._why)
