"""Addresses and networks, compared with what `ipaddress` says of them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain.networks import Networks, parse_address, parse_network

FORM = "must be an address or a network in CIDR notation, such as 192.0.2.0/24 or 2001:db8::/32"
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@st.composite
def networks(draw: st.DrawFn) -> str:
    address = draw(addresses)
    longest = 128 if ":" in address else 32
    network = ipaddress.ip_network(f"{address}/{draw(st.integers(0, longest))}", strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        return "2001:db8::/32"
    return str(network)


@given(st.lists(networks(), max_size=5), addresses)
def test_an_address_is_in_the_networks_that_hold_it(texts: list[str], text: str) -> None:
    given_address = ipaddress.ip_address(text)
    plain = getattr(given_address, "ipv4_mapped", None) or given_address
    address = parse_address(text)
    assert address is not None
    assert Networks([parse_network(each) for each in texts]).hold(address) is any(
        plain in ipaddress.ip_network(each) for each in texts
    )


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"), ("192.0.2.7", "192.0.2.7/32"), ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"), ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)  # fmt: skip
def test_a_network_is_kept_in_one_form(text: str, kept: str) -> None:
    assert str(parse_network(text)) == kept


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("192.0.2.7/24", "has bits set behind its prefix: 192.0.2.0/24 is meant, or 192.0.2.7 alone"),
        ("::ffff:192.0.2.0/120", "must be written as IPv4, not as IPv6 that holds it"),
        ("fe80::1%eth0", "must have no zone"),
        ("", FORM),
        ("example.com", FORM),
        ("192.0.2.0/33", FORM),
        (
            "192.0.2.0/255.255.255.0",
            FORM,
        ),
        ("192.0.2.0/24/8", FORM),
    ],
)
def test_what_is_no_network_is_told_what_is_wrong(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_network(text)
    assert str(caught.value) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.2.3",
        "01.2.3.4",
        "1.2.3.4:80",
        "[::1]",
        "::1%lo",
        "1.2.3.4, 5.6.7.8",
        " 1.2.3.4",
        "localhost",
        "1\0",
        "\ud800",
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert parse_address(text) is None


def test_an_ipv4_address_written_as_ipv6_is_the_ipv4_address() -> None:
    assert parse_address("::ffff:192.0.2.1") == parse_address("192.0.2.1")
