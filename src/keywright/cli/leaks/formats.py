"""Owns the files from which other scanners learn a deployment's keys: one function for each scanner, all of them pure.

A rule knows a prefix and the form behind it. None is told of a key here, nor of where one is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from keywright.domain.keyformat import MANAGEMENT_PREFIX

# No look-behind: most of these scanners know none. `\b` is not enough, for the letter of an escape (`\n`) and the last
# digit of a percent-encoded `=` stand before a key as well, and `_` before it is a longer prefix, of somebody else.
_PLACES = r"\b|\\[abefnrtv0]|%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}"


class Format(StrEnum):
    GITLEAKS = "gitleaks"
    BETTERLEAKS = "betterleaks"
    KINGFISHER = "kingfisher"
    TRUFFLEHOG = "trufflehog"
    DETECT_SECRETS = "detect-secrets"
    SECRETLINT = "secretlint"
    GITHUB = "github"
    GITLAB = "gitlab"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to be found: keys with this prefix. `verify_url` answers 200 to a live one as a bearer, None: nobody."""

    prefix: str
    verify_url: str | None = None

    @property
    def id(self) -> str:
        return f"keywright-{self.prefix.replace('_', '-')}"

    @property
    def is_management(self) -> bool:
        return self.prefix == MANAGEMENT_PREFIX

    @property
    def words(self) -> str:
        kind = "Keywright management key" if self.is_management else "Keywright API key"
        return f"{kind} ({self.prefix}_...)"

    @property
    def key(self) -> str:
        """The pattern of the key itself."""
        return rf"{self.prefix}_[0-9a-f]{{32}}_[0-9a-f]{{8}}"

    @property
    def pattern(self) -> str:
        """The pattern of a key where it stands; its one group is the key. RE2, Rust and Python read it."""
        return rf"(?:{_PLACES})({self.key})\b"


def write(format: Format, rules: Sequence[Rule]) -> str:
    """The file of a scanner, from its first line to its last."""
    return _WRITERS[format](rules)


def _gitleaks(rules: Sequence[Rule]) -> str:
    return "\n".join(["# gitleaks git --config THIS-FILE", *_gitleaks_body(rules)])


def _gitleaks_body(rules: Sequence[Rule]) -> list[str]:
    lines = ['title = "Keywright"', "", "[extend]", "useDefault = true", ""]
    for rule in rules:
        lines += [
            "[[rules]]",
            f'id = "{rule.id}"',
            f'description = "{rule.words}"',
            f"regex = '{rule.pattern}'",
            "secretGroup = 1",
            f'keywords = ["{rule.prefix}_"]',
            "",
        ]
    return lines


def _betterleaks(rules: Sequence[Rule]) -> str:
    lines = ["# betterleaks git --config THIS-FILE", 'title = "Keywright"', "", "[extend]", "useDefault = true"]
    taken = [_BUILT_IN[rule.prefix] for rule in rules if rule.prefix in _BUILT_IN]
    if taken:
        lines += ["# These would send the keys of this deployment to another vendor.", f"disabledRules = {taken}"]
    lines.append("")
    for rule in rules:
        lines += [
            "[[rules]]",
            f'id = "{rule.id}"',
            f'description = "{rule.words}"',
            f"regex = '{rule.pattern}'",
            f'keywords = ["{rule.prefix}_"]',
            'confidence = "high"',
        ]
        if rule.verify_url:
            lines += [
                "validate = '''",
                f'let r = http.get("{rule.verify_url}", {{"Authorization": "Bearer " + finding["secret"]}});',
                'r.status == 200 ? {"result": "valid"} : r.status == 401 ? {"result": "invalid"} : validate.unknown(r)',
                "'''",
            ]
        lines.append("")
    return "\n".join(lines)


_BUILT_IN = {"zpka": "zuplo-consumer-api-key.1"}
"""Rules that Betterleaks 2.0.0 and Kingfisher 2.14.0 have of their own, by the prefix that they take for a vendor's."""


def _kingfisher(rules: Sequence[Rule]) -> str:
    lines = ["# kingfisher scan --rules-path THIS-FILE PATH"]
    for rule in rules:
        if rule.prefix in _BUILT_IN:
            lines += [f"# and --exclude-rule betterleaks.{_BUILT_IN[rule.prefix]}, or keys are sent to another vendor."]
    lines.append("rules:")
    for rule in rules:
        lines += [
            f"  - name: {rule.words}",
            f"    id: {rule.id.replace('-', '.', 1)}",
            f"    pattern: '{rule.pattern}'",
            "    min_entropy: 2.0",
            "    confidence: high",
            "    examples: []",
        ]
        if rule.verify_url:
            lines += [
                "    validation:",
                "      type: Http",
                "      content:",
                "        request:",
                "          method: GET",
                f"          url: {json.dumps(rule.verify_url)}",
                "          headers:",
                "            Authorization: Bearer {{ TOKEN }}",
                "          response_matcher:",
                "            - type: StatusMatch",
                "              status: [200]",
            ]
    return "\n".join([*lines, ""])


def _trufflehog(rules: Sequence[Rule]) -> str:
    lines = ["# trufflehog filesystem --config THIS-FILE PATH", "detectors:"]
    for rule in rules:
        lines += [
            f"  - name: {rule.id}",
            f"    description: {rule.words}",
            f"    keywords: ['{rule.prefix}_']",
            "    regex:",
            f"      key: '{rule.pattern}'",
        ]
    return "\n".join([*lines, ""])


def _detect_secrets(rules: Sequence[Rule]) -> str:
    lines = [
        '"""Finds the keys of a Keywright deployment: detect-secrets scan --plugin THIS-FILE"""',
        "",
        "import re",
        "import zlib",
        "",
        "from detect_secrets.plugins.base import RegexBasedDetector",
        "",
    ]
    for rule in rules:
        name = "".join(part.capitalize() for part in rule.id.split("-"))
        lines += [
            "",
            f"class {name}Detector(RegexBasedDetector):",
            f'    secret_type = "{rule.words}"',
            f'    denylist = (re.compile(r"{rule.pattern}"),)',
            "",
            "    def analyze_string(self, string):",
            "        for key in super().analyze_string(string):",
            '            _, random, checksum = key.rsplit("_", 2)',
            '            if f"{zlib.crc32(random.encode()):08x}" == checksum:',
            "                yield key",
            "",
        ]
    return "\n".join(lines)


def _secretlint(rules: Sequence[Rule]) -> str:
    # What it reports is all that matches, and JavaScript has a look-behind.
    patterns = [{"name": rule.words, "pattern": rf"/(?<={_PLACES}){rule.key}\b/"} for rule in rules]
    pattern_rule = {"id": "@secretlint/secretlint-rule-pattern", "options": {"patterns": patterns}}
    return json.dumps({"rules": [pattern_rule]}, indent=2) + "\n"


def _github(rules: Sequence[Rule]) -> str:
    """What GitHub's page for a custom pattern asks for, as it has no file."""
    lines = ["# Settings > Advanced Security > Custom patterns > New pattern: one for each of these."]
    for rule in rules:
        lines += [
            f"- pattern_name: {rule.words}",
            f"  secret_format: '{rule.key}'",
            "  before_secret: '\\A|[^0-9A-Za-z_]|\\\\[nrt]|%[0-9A-Fa-f]{2}'",
            "  after_secret: '\\z|[^0-9A-Za-z_]'",
        ]
    return "\n".join([*lines, ""])


def _gitlab(rules: Sequence[Rule]) -> str:
    """A ruleset of GitLab's pipeline secret detection: its own rules, and ours beside them."""
    inner = [line.replace("useDefault = true", 'path = "/gitleaks.toml"') for line in _gitleaks_body(rules)]
    return "\n".join(
        [
            "# .gitlab/secret-detection-ruleset.toml",
            "[secrets]",
            'description = "Keys of a Keywright deployment, beside what GitLab knows"',
            "",
            "[[secrets.passthrough]]",
            'type = "raw"',
            'target = "gitleaks.toml"',
            "value = '''",
            *inner,
            "'''",
            "",
        ]
    )


_WRITERS: Mapping[Format, Callable[[Sequence[Rule]], str]] = {
    Format.GITLEAKS: _gitleaks,
    Format.BETTERLEAKS: _betterleaks,
    Format.KINGFISHER: _kingfisher,
    Format.TRUFFLEHOG: _trufflehog,
    Format.DETECT_SECRETS: _detect_secrets,
    Format.SECRETLINT: _secretlint,
    Format.GITHUB: _github,
    Format.GITLAB: _gitlab,
}
