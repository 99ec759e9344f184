"""The client's address is the peer's; behind trusted proxies it is what they say, and nobody else is believed."""

from __future__ import annotations

from typing import Any

import pytest

from keywright.domain.networks import Networks, parse_network
from keywright.http.client_address import ClientAddresses, OddAddress, network_of

PROXIES = Networks([parse_network(text) for text in ("10.0.0.0/8", "127.0.0.1", "fd00::/8")])
FORWARDED_FOR = ClientAddresses(PROXIES, "x-forwarded-for")
REAL_IP = ClientAddresses(PROXIES, "x-real-ip")


def find(addresses: ClientAddresses, peer: str, *values: str, name: str = "") -> str:
    header = (name or addresses.header or "x-forwarded-for").encode()
    scope: dict[str, Any] = {"client": (peer, 1), "headers": [(header, value.encode("latin-1")) for value in values]}
    return addresses.find(scope)


@pytest.mark.parametrize(
    ("addresses", "peer", "values", "found"),
    [
        (ClientAddresses(), "127.0.0.1", ["192.0.2.1"], "127.0.0.1"),
        (FORWARDED_FOR, "198.51.100.9", ["192.0.2.1"], "198.51.100.9"),
        (REAL_IP, "198.51.100.9", ["garbage", "more"], "198.51.100.9"),
        (REAL_IP, "127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        (REAL_IP, "127.0.0.1", [], "127.0.0.1"),
        (REAL_IP, "::ffff:127.0.0.1", ["2001:DB8::1"], "2001:db8::1"),
        (REAL_IP, "10.2.3.4", ["::ffff:192.0.2.1"], "192.0.2.1"),
        (REAL_IP, "10.2.3.4", [" 192.0.2.1\t"], "192.0.2.1"),
        (FORWARDED_FOR, "127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        (FORWARDED_FOR, "127.0.0.1", ["6.6.6.6, 192.0.2.1, 10.1.1.1"], "192.0.2.1"),
        (FORWARDED_FOR, "127.0.0.1", ["6.6.6.6", "192.0.2.1,10.1.1.1"], "192.0.2.1"),
        (FORWARDED_FOR, "127.0.0.1", ["garbage, 1.2.3.4:80, 192.0.2.1"], "192.0.2.1"),
        (FORWARDED_FOR, "127.0.0.1", ["10.9.9.9, 10.1.1.1"], "10.9.9.9"),
        (FORWARDED_FOR, "fd00::7", ["6.6.6.6, 2001:db8::1, fd00::8"], "2001:db8::1"),
    ],
)
def test_the_client_is_the_nearest_who_is_no_proxy(
    addresses: ClientAddresses, peer: str, values: list[str], found: str
) -> None:
    assert find(addresses, peer, *values) == found


ODD = [
    "", " ", "unknown", "192.0.2.1:80", "[2001:db8::1]", "[2001:db8::1]:80", "192.0.2.1/32", "192.0.2", "192.0.2.01",
    "fe80::1%eth0", "example.com", "0x7f.1", "192.0.2.1;", '"192.0.2.1"', "\xa0192.0.2.1",
    "\u0661.1.1.1".encode().decode("latin-1"),
]  # fmt: skip


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("addresses", [REAL_IP, FORWARDED_FOR], ids=["one", "list"])
def test_what_is_no_address_is_refused_from_a_proxy(addresses: ClientAddresses, value: str) -> None:
    with pytest.raises(OddAddress) as refused:
        find(addresses, "127.0.0.1", value)
    assert refused.value.status == 400
    assert value.strip() == "" or value not in str(refused.value.detail)


@pytest.mark.parametrize("values", [["192.0.2.1, 192.0.2.2"], ["192.0.2.1", "192.0.2.2"], ["192.0.2.1", "192.0.2.1"]])
def test_a_list_is_refused_where_there_is_one_address(values: list[str]) -> None:
    with pytest.raises(OddAddress):
        find(REAL_IP, "127.0.0.1", *values)


def test_no_other_header_is_believed() -> None:
    assert find(REAL_IP, "127.0.0.1", "192.0.2.1", name="x-forwarded-for") == "127.0.0.1"


def test_a_request_of_nobody_has_no_address() -> None:
    assert ClientAddresses().find({"client": None, "headers": []}) == ""
    assert REAL_IP.find({"headers": []}) == ""


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_address_of_ipv6_is_counted_by_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
