"""Which proxies are trusted is said exactly, or the service does not start."""

from __future__ import annotations

import pytest

from keywright.runtime.settings import OriginSettings
from keywright.runtime.settings.reader import SettingsError


def load(monkeypatch: pytest.MonkeyPatch, proxies: str | None, header: str | None) -> OriginSettings:
    for name, value in (("KEYWRIGHT_TRUSTED_PROXIES", proxies), ("KEYWRIGHT_CLIENT_ADDRESS_HEADER", header)):
        if value is not None:
            monkeypatch.setenv(name, value)
    return OriginSettings.load(data_dir="/nowhere")


def test_networks_and_single_addresses_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, "10.0.0.0/8, 127.0.0.1,fd00::/8", "X-Real-IP")
    found = [str(network) for network in settings.trusted_proxies]
    assert found == ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"]
    assert settings.client_address_header == "x-real-ip"


@pytest.mark.parametrize(
    ("proxies", "header", "words"),
    [
        ("10.0.0.1/8", "X-Real-IP", "bits set behind its prefix"),
        ("proxy.internal", "X-Real-IP", "must be an address or a network in CIDR"),
        ("10.0.0.0/255.0.0.0", "X-Real-IP", "must be an address or a network in CIDR"),
        ("10.0.0.0:80", "X-Real-IP", "must be an address or a network in CIDR"),
        ("fe80::%eth0/64", "X-Real-IP", "must have no zone"),
        ("::ffff:192.0.2.0/120", "X-Real-IP", "must be written as IPv4"),
        ("0.0.0.0/0", "X-Real-IP", "everybody"),
        ("10.0.0.0/8,::/0", "X-Real-IP", "everybody"),
        ("10.0.0.0/8", None, "needs KEYWRIGHT_CLIENT_ADDRESS_HEADER"),
        (None, "X-Real-IP", "needs KEYWRIGHT_TRUSTED_PROXIES"),
        ("10.0.0.0/8", "Forwarded", "can't be Forwarded"),
        ("10.0.0.0/8", "X Real", "must be a header's name"),
    ],
)
def test_what_would_be_guessed_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, proxies: str | None, header: str | None, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        load(monkeypatch, proxies, header)
