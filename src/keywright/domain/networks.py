"""Owns how IP addresses and networks are read from text: one spelling each, and nothing that two parsers read apart."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_address(text: str) -> Address | None:
    """An address without port, brackets, zone or mask; None for all else. IPv4 in IPv6 is IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


def parse_network(text: str) -> Network:
    """A network in CIDR notation, or a single address. Raises ValueError."""
    if "%" in text:
        raise ValueError("has a zone")
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError("has host bits set" if "host bits" in str(error) else "is no network") from None
    mask = text.partition("/")[2]
    # ipaddress takes 10.0.0.0/255.0.0.0 as well, and the same with all bits turned.
    if mask and not mask.isdecimal():
        raise ValueError("is no network")
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return ipaddress.ip_network((mapped, network.prefixlen - 96))
    return network
