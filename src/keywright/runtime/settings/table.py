"""Owns the one table of settings: every KEYWRIGHT_* variable that any part of the product reads.

Each is declared once, in the module of the settings that it is one of. docs/reference/settings.md has a row for each,
which a test compares with these.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from keywright.runtime.settings import common, edge, end_users, nats, network, origin, other_parts
from keywright.runtime.settings.kinds import Setting


def _declared_in(module: ModuleType) -> tuple[Setting[Any], ...]:
    own = (value for value in vars(module).values() if isinstance(value, Setting))
    return tuple(own)


SETTINGS: tuple[Setting[Any], ...] = tuple(
    {
        setting.name: setting
        for module in (common, network, origin, end_users, edge, nats, other_parts)
        for setting in _declared_in(module)
    }.values()
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
OLD_NAMES = {old.name: setting for setting in SETTINGS for old in setting.old_names}
"""The settings by what they were called."""
