"""What is an address of a server, and what goes into each question."""

from __future__ import annotations

import ssl

import pytest

from keywright.http.client.server_address import ServerAddress, head, new_tls_context, parse


@pytest.mark.parametrize(
    ("url", "address", "host_header"),
    [
        ("http://edge", ServerAddress("edge", 80, "", False), "edge"),
        ("https://Edge.Internal/", ServerAddress("edge.internal", 443, "", True), "edge.internal"),
        ("https://edge:8443/keys/", ServerAddress("edge", 8443, "/keys", True), "edge:8443"),
        ("http://[::1]:8080", ServerAddress("::1", 8080, "", False), "[::1]:8080"),
        ("http://[fe80::1%eth0]", ServerAddress("fe80::1%eth0", 80, "", False), "[fe80::1]"),
        ("http://bücher.x/ä b%20", ServerAddress("xn--bcher-kva.x", 80, "/%C3%A4%20b%20", False), "xn--bcher-kva.x"),
        ("https://edge:80", ServerAddress("edge", 80, "", True), "edge:80"),
    ],
)  # fmt: skip
def test_an_address_has_what_a_connection_and_its_questions_need(
    url: str, address: ServerAddress, host_header: str
) -> None:
    assert parse(url) == address
    assert address.host_header == host_header


@pytest.mark.parametrize(
    "url",
    [
        "", "edge", "ftp://edge", "http://", "http://user:password@edge", "http://edge/?a=1", "http://edge#a", "http://edge:0",
        "http://edge:99999", "http://edge:x", "http://a..b", "http://" + "a" * 64, "http://ed ge", "http://edge\0", "http://[::1",
        "http://[::g]", "http://ed,ge",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse(url)


@pytest.mark.parametrize("value", ["", "secret\r\nx: y", "secret\n", " secret", "secret\0", "secretä"])
def test_a_value_that_would_be_more_than_a_value_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(ValueError, match="keywright-token") as refused:
        head(parse("http://edge"), {"keywright-token": value})
    assert "secret" not in str(refused.value)


def test_a_head_names_the_host_and_asks_for_no_compression() -> None:
    made = head(parse("http://edge:1"), {"user-agent": "x"})
    assert made == b"host: edge:1\r\naccept-encoding: identity\r\nuser-agent: x\r\n"


def test_tls_verifies_names_and_certificates() -> None:
    context = new_tls_context()
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
