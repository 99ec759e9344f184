"""Powers: how they are written, and that every combination of them is judged in one order, against a plain model."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain.networks import parse_address
from keywright.domain.powers import NO_DEMAND, Demand, UnknownPower, decode_powers, encode_powers, inheriting
from keywright.domain.scopes import Scopes
from keywright.domain.verdict import ConsumerRecord, KeyRecord, Verdict, decide

NOW = 1_800_000_000_000
SCOPES = ["a", "b", "a:read", "a:*", "*"]
ADDRESSES = ["192.0.2.1", "198.51.100.1", "2001:db8::1"]
NETWORKS = ["192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0"]

said = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.just(False),
        "scopes": st.lists(st.sampled_from(SCOPES), max_size=3, unique=True),
        "allowed_ips": st.lists(st.sampled_from(NETWORKS), max_size=2, unique=True),
    },
)


def plainly(
    key: dict[str, Any],
    consumer: dict[str, Any],
    defaults: list[str],
    *,
    is_over: bool,
    asked: list[str],
    ip: str | None,
) -> Verdict:
    """The rules, said once more without a thought to speed."""
    if not key.get("enabled", True) or not consumer.get("enabled", True):
        return Verdict.DISABLED
    if is_over:
        return Verdict.EXPIRED
    for each in (key, consumer):
        allowed = each.get("allowed_ips")
        if allowed is not None and (ip is None or not any(_holds(network, ip) for network in allowed)):
            return Verdict.IP_NOT_ALLOWED
    for scope in asked:
        levels = [consumer.get("scopes", defaults)] + ([key["scopes"]] if "scopes" in key else [])
        if not all(Scopes(level).covers(scope) for level in levels):
            return Verdict.INSUFFICIENT_SCOPE
    return Verdict.VALID


def _holds(network: str, ip: str) -> bool:
    return ipaddress.ip_address(ip) in ipaddress.ip_network(network)


@given(
    said,
    said,
    st.lists(st.sampled_from(SCOPES), max_size=2),
    st.booleans(),
    st.lists(st.sampled_from(SCOPES), max_size=2),
    st.none() | st.sampled_from(ADDRESSES),
)
def test_every_combination_is_judged_as_the_rules_say(
    key: dict[str, Any],
    consumer: dict[str, Any],
    defaults: list[str],
    is_over: bool,
    asked: list[str],
    ip: str | None,
) -> None:
    records = []
    for powers in (key, consumer):
        text = encode_powers(**powers)
        records.append(None if text is None else decode_powers(text))
    result = decide(
        KeyRecord("key_1", 1, NOW if is_over else None, records[0]),
        ConsumerRecord("csmr_1", "acme", b"{}", inheriting(records[1], None, Scopes(defaults) if defaults else None)),
        NOW,
        Demand(tuple(asked), None if ip is None else parse_address(ip)) if asked or ip else NO_DEMAND,
    )
    assert result.verdict is plainly(key, consumer, defaults, is_over=is_over, asked=asked, ip=ip)
    assert (result.key is None) is (result.verdict is not Verdict.VALID)


@given(said)
def test_powers_survive_being_written_and_read(powers: dict[str, Any]) -> None:
    text = encode_powers(**powers)
    assert (text is None) is (not powers)
    if text is not None:
        read = decode_powers(text)
        assert read.is_enabled is powers.get("enabled", True)
        assert (None if read.scopes is None else read.scopes.names) == (
            frozenset(powers["scopes"]) if "scopes" in powers else None
        )
        assert (None if read.networks is None else list(read.networks.texts)) == powers.get("allowed_ips")


def test_the_same_powers_are_written_alike() -> None:
    assert encode_powers(scopes=["b", "a", "b"]) == encode_powers(scopes=["a", "b"]) == '{"scopes":["a","b"]}'
    assert encode_powers(metadata='{ "ключ": "é" }') == '{"metadata":{"ключ":"é"}}'
    assert decode_powers('{"metadata":{"ключ":"é"}}').metadata == '{"ключ":"é"}'.encode()


def test_a_power_of_a_later_version_is_named_and_never_passed_over() -> None:
    with pytest.raises(UnknownPower, match="powers that this version can't judge: moonPhase, tides"):
        decode_powers('{"enabled":true,"tides":1,"moonPhase":[]}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "1",
        '{"enabled":1}',
        '{"scopes":"a"}',
        '{"scopes":[1]}',
        '{"allowedIps":["x"]}',
        '{"scopes":null}',
    ],
)
def test_what_is_no_powers_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_powers(text)


def test_powers_are_a_json_object() -> None:
    assert json.loads(encode_powers(enabled=False, scopes=[], allowed_ips=["::/0"]) or "") == {
        "enabled": False, "scopes": [], "allowedIps": ["::/0"],
    }  # fmt: skip
