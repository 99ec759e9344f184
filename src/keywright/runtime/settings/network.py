"""Owns the settings of who connects: the proxies whose word is taken, and how many connections one address has."""

from __future__ import annotations

from typing import Any

from keywright.domain.identity_headers import check_address_header
from keywright.domain.networks import Network, parse_proxies
from keywright.runtime.settings.kinds import Kind, Setting, checked, whole
from keywright.runtime.settings.reader import Reader, SettingsError

_NETWORKS: Kind[tuple[Network, ...]] = Kind("networks with commas between", parse_proxies)

TRUSTED_PROXIES = Setting(
    name="KEYWRIGHT_TRUSTED_PROXIES",
    kind=_NETWORKS,
    default=(),
    help="[proxies in front](../how-to/run-in-production.md#behind-a-proxy): `10.1.0.0/16`, several with commas; "
    "from them the client's address is taken from the next setting's header",
)
CLIENT_ADDRESS_HEADER = Setting(
    name="KEYWRIGHT_CLIENT_ADDRESS_HEADER",
    kind=checked("a header's name", check_address_header),
    default="",
    help="the header in which they send it: `X-Real-IP` or the like with one address, or `X-Forwarded-For`, "
    "which is read from the right as long as a proxy is trusted",
)
CONNECTIONS_PER_ADDRESS = Setting(
    name="KEYWRIGHT_CONNECTIONS_PER_ADDRESS",
    kind=whole(0, 1_000_000),
    default=0,
    shown_default="`0` = half of what a worker holds",
    help="connections that one address (of IPv6 one /64) may have with a worker process, "
    "[trusted proxies](../how-to/run-in-production.md#connections) aside",
)


def read_network(reader: Reader) -> dict[str, Any]:
    """The fields of PlaneSettings that are about who connects. Raises SettingsError."""
    proxies, header = reader.get(TRUSTED_PROXIES), reader.get(CLIENT_ADDRESS_HEADER).lower()
    for is_there, there, missing in (
        (proxies, TRUSTED_PROXIES, CLIENT_ADDRESS_HEADER),
        (header, CLIENT_ADDRESS_HEADER, TRUSTED_PROXIES),
    ):
        if is_there and not (proxies and header):
            raise SettingsError(f"{there.name} needs {missing.name}: nobody's header is believed without both")
    return {
        "trusted_proxies": proxies,
        "client_address_header": header,
        "connections_per_address": reader.get(CONNECTIONS_PER_ADDRESS),
    }
