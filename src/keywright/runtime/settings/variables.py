"""Owns which KEYWRIGHT_* variables there may be in an environment, what is said of others, and what workers get.

A name that no part of the product knows is a setting that does nothing: mistyped, it leaves open what it should close.
Values are never shown.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass

from keywright.runtime.settings.common import IGNORE_VARIABLES, STRICT_SETTINGS
from keywright.runtime.settings.kinds import Part
from keywright.runtime.settings.reader import Reader, SettingsError, is_of_kubernetes
from keywright.runtime.settings.table import BY_NAME, OLD_NAMES, SETTINGS

PREFIX = "KEYWRIGHT_"
MAX_EDITS = 2
"""How far a name may be from one of ours and still be taken for that one, mistyped."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Names of variables that are no settings, in alphabetical order."""

    mistyped: Mapping[str, str]
    """The settings that are probably meant, by the names that there are."""
    unknown: tuple[str, ...]
    kubernetes: tuple[str, ...]
    is_strict: bool

    @property
    def lines(self) -> list[str]:
        """A sentence for each that is not ours."""
        told = [f"{name} is not a variable of Keywright; is {meant} meant?" for name, meant in self.mistyped.items()]
        return told + [f"{name} is not a variable of Keywright, and does nothing" for name in self.unknown]


def examine(environ: Mapping[str, str]) -> Findings:
    """What there is beside settings. Raises SettingsError where the settings of that are none themselves."""
    reader = Reader(environ, {})
    ignored = frozenset(reader.get(IGNORE_VARIABLES))
    mistyped, unknown, kubernetes = {}, [], []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in ignored:
            continue
        if is_of_kubernetes(name, environ[name]):
            kubernetes.append(name)
        elif name not in BY_NAME and name not in OLD_NAMES:
            meant = nearest(name, (*BY_NAME, *OLD_NAMES))
            if meant is None:
                unknown.append(name)
            else:
                mistyped[name] = meant
    return Findings(mistyped, tuple(unknown), tuple(kubernetes), reader.get(STRICT_SETTINGS))


def refuse_unknown(environ: Mapping[str, str]) -> None:
    """For a start: raises SettingsError for names that are probably mistyped; in strict mode for all unknown ones."""
    found = examine(environ)
    if found.mistyped or (found.is_strict and found.unknown):
        lines = found.lines if found.is_strict else found.lines[: len(found.mistyped)]
        raise SettingsError(f"{'; '.join(lines)} ({IGNORE_VARIABLES.name} lists names to be left alone)")


def warn_of_unknown(environ: Mapping[str, str], log: logging.Logger) -> None:
    """A warning for each unknown name, and one line for all that Kubernetes has set. Stops nothing."""
    try:
        found = examine(environ)
    except SettingsError as error:
        log.warning("%s", error)
        return
    for line in found.lines:
        log.warning("%s", line)
    if found.kubernetes:
        log.info("variables that Kubernetes sets for a Service are passed over: %s", ", ".join(found.kubernetes))


def warn_of_old_names(environ: Mapping[str, str], part: Part, log: logging.Logger) -> None:
    """One warning for all variables under old names that this part reads."""
    told = old_names_in(environ, part)
    if told:
        pairs = ", ".join(f"{name} is now {OLD_NAMES[name].name}" for name in told)
        log.warning("old names of variables, which a later version will not know: %s", pairs)


def old_names_in(environ: Mapping[str, str], part: Part) -> list[str]:
    """The old names that are set where the new ones are not, of what this part reads."""
    return [
        name
        for name, setting in OLD_NAMES.items()
        if part in setting.parts and environ.get(name, "").strip() and not environ.get(setting.name, "").strip()
    ]


def hand_on(environ: MutableMapping[str, str], flags: Mapping[str, str]) -> None:
    """Make the environment one in which workers read what was read here, and have nothing to warn of."""
    for setting in SETTINGS:
        if is_of_kubernetes(setting.name, environ.get(setting.name, "")):
            del environ[setting.name]
        for old in setting.old_names:
            text = environ.pop(old.name, "").strip()
            if text and setting.name not in flags and not environ.get(setting.name, "").strip():
                environ[setting.name] = old.to_new(text)
    environ.update(flags)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is the fewest edits away, MAX_EDITS at most."""
    found, edits = None, MAX_EDITS + 1
    for one in known:
        if abs(len(one) - len(name)) < edits and (distance := _distance(name, one)) < edits:
            found, edits = one, distance
    return found


def _distance(one: str, other: str) -> int:
    """How many characters must be put in, taken out or exchanged to make one name of the other (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        left = [i]
        for j, b in enumerate(other, 1):
            left.append(min(row[j] + 1, left[-1] + 1, row[j - 1] + (a != b)))
        row = left
    return row[-1]
