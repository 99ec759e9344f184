"""Files for other scanners: each can be read as what it is, and its own patterns find every key and no other."""

from __future__ import annotations

import json
import random
import re
import sys
import tomllib
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from keywright.cli.leaks.formats import Format, Rule, write
from keywright.domain.keyformat import generate
from scanners.places import OF_OTHERS, PLACES

PREFIXES = ("kwmk", "acme_live", "kwak", "zpka")
RULES = [Rule(prefix) for prefix in PREFIXES]
KEYS = {prefix: generate(prefix, random.randbytes).reveal() for prefix in PREFIXES}


def _toml(text: str) -> list[str]:
    return [rule["regex"] for rule in tomllib.loads(text)["rules"]]


def _kingfisher(text: str) -> list[str]:
    return [rule["pattern"] for rule in yaml.safe_load(text)["rules"]]


def _trufflehog(text: str) -> list[str]:
    return [rule["regex"]["key"] for rule in yaml.safe_load(text)["detectors"]]


def _secretlint(text: str) -> list[str]:
    ((rule,),) = json.loads(text).values()
    patterns = [one["pattern"] for one in rule["options"]["patterns"]]
    assert all(pattern[0] == pattern[-1] == "/" for pattern in patterns)
    # A look-behind of several lengths, which Python does not know.
    return [re.sub(r"^\(\?<=(.*?)\)(?=[a-z])(.*)\\b$", r"(?:\1)(\2)\\b", pattern[1:-1]) for pattern in patterns]


def _github(text: str) -> list[str]:
    return [
        f"(?:{one['before_secret']})({one['secret_format']})(?={one['after_secret']})".replace(r"\z", r"\Z")
        for one in yaml.safe_load(text)
    ]


def _gitlab(text: str) -> list[str]:
    (passed,) = tomllib.loads(text)["secrets"]["passthrough"]
    inner = tomllib.loads(passed["value"])
    assert inner["extend"] == {"path": "/gitleaks.toml"}
    return [rule["regex"] for rule in inner["rules"]]


READERS: dict[Format, Callable[[str], list[str]]] = {
    Format.GITLEAKS: _toml,
    Format.BETTERLEAKS: _toml,
    Format.KINGFISHER: _kingfisher,
    Format.TRUFFLEHOG: _trufflehog,
    Format.SECRETLINT: _secretlint,
    Format.GITHUB: _github,
    Format.GITLAB: _gitlab,
}


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """Reads a plugin of detect-secrets beside a base class that finds as that of 1.5.0 does."""

    class RegexBasedDetector:
        denylist: tuple[re.Pattern[str], ...]

        def analyze_string(self, string: str) -> Iterator[str]:
            for pattern in self.denylist:
                yield from pattern.findall(string)

    base = types.ModuleType("detect_secrets.plugins.base")
    base.RegexBasedDetector = RegexBasedDetector  # type: ignore[attr-defined]
    for name in ("detect_secrets", "detect_secrets.plugins"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, base.__name__, base)

    def read(text: str) -> list[Any]:
        space: dict[str, Any] = {"__name__": "plugin"}
        exec(compile(text, "plugin.py", "exec"), space)
        return [made() for name, made in space.items() if name.startswith("Keywright")]

    return read


@pytest.mark.parametrize("format", READERS)
def test_the_patterns_of_a_file_find_every_key_and_no_other(format: Format) -> None:
    patterns = [re.compile(one, re.MULTILINE) for one in READERS[format](write(format, RULES))]
    assert len(patterns) == len(PREFIXES)
    for prefix, key in KEYS.items():
        for name, place in PLACES.items():
            found = [match[1] for pattern in patterns for match in pattern.finditer(place.format(key=key))]
            assert found == [key], f"{prefix} in {name}"
        for text in OF_OTHERS:
            other = text.format(key=key, upper=key.upper(), short=key[:-1])
            assert not any(pattern.search(f"X={other}\n") for pattern in patterns), other


def test_a_plugin_of_detect_secrets_finds_every_key_and_checks_the_checksum(
    detectors: Callable[[str], list[Any]],
) -> None:
    made = detectors(write(Format.DETECT_SECRETS, RULES))
    assert sorted(one.secret_type for one in made) == sorted(rule.words for rule in RULES)
    for key in KEYS.values():
        for place in PLACES.values():
            found = [
                one for each in made for line in place.format(key=key).split("\n") for one in each.analyze_string(line)
            ]
            assert found == [key]
        for text in (*OF_OTHERS, key[:-1] + ("0" if key[-1] != "0" else "1")):
            other = text.format(key=key, upper=key.upper(), short=key[:-1])
            assert not any(list(one.analyze_string(f"X={other}")) for one in made), other


@pytest.mark.parametrize("format", [Format.BETTERLEAKS, Format.KINGFISHER])
def test_only_rules_that_know_whom_to_ask_ask_and_no_others_vendor(format: Format) -> None:
    rules = [Rule("kwak", "https://keys.example.com/v1/forward-auth/b"), Rule("zpka")]
    text = write(format, rules)
    if format is Format.BETTERLEAKS:
        first, second = tomllib.loads(text)["rules"]
        asked, silent = first["validate"], second.get("validate")
        assert tomllib.loads(text)["extend"]["disabledRules"] == ["zuplo-consumer-api-key.1"]
    else:
        first, second = yaml.safe_load(text)["rules"]
        asked, silent = first["validation"]["content"]["request"]["url"], second.get("validation")
        assert "--exclude-rule betterleaks.zuplo-consumer-api-key.1" in text
    assert "https://keys.example.com/v1/forward-auth/b" in asked
    assert silent is None
    assert "http" not in "".join(line for line in write(format, [Rule("kwak")]).splitlines() if line[:1] != "#")


def test_ids_are_told_apart() -> None:
    assert [Rule(prefix).id for prefix in ("acme_live", "kwmk")] == ["keywright-acme-live", "keywright-kwmk"]
    assert [Rule(prefix).words for prefix in ("acme_live", "kwmk")] == [
        "Keywright API key (acme_live_...)",
        "Keywright management key (kwmk_...)",
    ]
