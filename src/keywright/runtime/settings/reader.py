"""Owns reading a setting: its flag, else its variable, else its old name; and what is said where they don't fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from keywright.runtime.settings.kinds import OldName, Setting

T = TypeVar("T")
_FORM = re.compile(
    r"KEYWRIGHT_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)"
)
_ADDRESS_NAME = re.compile(r"KEYWRIGHT_(?:[A-Z0-9_]+_)?PORT")
_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://\S+")


class SettingsError(Exception):
    """A setting that can't be used; the message names it and says what it may be. It never holds a secret."""


class Reader:
    """Settings from variables and from flags, both by the variables' names. A flag wins."""

    def __init__(self, variables: Mapping[str, str], flags: Mapping[str, str]) -> None:
        self._variables = variables
        self.flags = flags

    def get(self, setting: Setting[T]) -> T:
        """Its value, or its default where nothing is set. Raises SettingsError."""
        text = self._find(setting)
        if text is None or not (text or setting.kind.takes_blank):
            return setting.default
        try:
            return setting.kind.parse(text)
        except ValueError as error:
            raise SettingsError(f"{setting.label} {error}") from None

    def _find(self, setting: Setting[T]) -> str | None:
        if setting.name in self.flags:
            return self.flags[setting.name].strip()
        found = self._variables.get(setting.name)
        if found is not None:
            found = None if is_of_kubernetes(setting.name, found) else found.strip()
        for old in setting.old_names:
            text = self._variables.get(old.name, "").strip()
            if not text:
                continue
            renamed = _to_new(old, text)
            if found and not _are_same(setting, found, renamed):
                raise SettingsError(f"{setting.name} and {old.name} (its old name) differ; unset one of them")
            found = found or renamed
        return found


def given_flags(**given: object) -> dict[str, str]:
    """The variables that flags stand for, where they were given."""
    return {name: str(value) for name, value in given.items() if value is not None}


def is_of_kubernetes(name: str, value: str) -> bool:
    """Whether a variable is one that Kubernetes puts into every pod of a namespace for each Service in it.

    A Service named `keywright` makes KEYWRIGHT_SERVICE_HOST, KEYWRIGHT_PORT=tcp://10.0.0.1:8080 and some more.
    `..._PORT` is also what settings of ours are called: there the value tells, which is an address where it is theirs.
    """
    if _FORM.fullmatch(name) is not None:
        return True
    return _ADDRESS_NAME.fullmatch(name) is not None and _ADDRESS.fullmatch(value.strip()) is not None


def _to_new(old: OldName, text: str) -> str:
    try:
        return old.to_new(text)
    except ValueError as error:
        raise SettingsError(f"{old.name} {error}") from None


def _are_same(setting: Setting[T], text: str, other: str) -> bool:
    """Whether two texts are one value: 0.5 and 0.50 are."""
    if text == other or setting.kind.is_secret:
        return text == other
    try:
        return bool(setting.kind.parse(text) == setting.kind.parse(other))
    except ValueError:
        return False
