"""Owns the columns of tables and records: which field of a row they show, and how its value is written.

Names and descriptions were chosen by others: whatever could steer a terminal is written as an escape.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

# Control characters (C0, DEL, C1), line separators, marks that reorder text, and halves of surrogate pairs.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

Row = Mapping[str, Any]


class Column(NamedTuple):
    """One field of each row.

    `is_whole`: an id or a secret, which is never broken over lines. `in_list`: in tables, too, not only where one
    thing is shown.
    """

    title: str
    text: Callable[[Row], str]
    is_whole: bool = False
    in_list: bool = True


def text_of(field: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        value = row.get(field)
        return "" if value is None else plain(str(value))

    return text


def time_of(field: str, *, missing: str = "") -> Callable[[Row], str]:
    """A time of the API, such as 2026-11-23T10:26:05.123Z, as `2026-11-23 10:26:05 UTC`."""

    def text(row: Row) -> str:
        value = row.get(field)
        if value is None:
            return missing
        try:
            return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        except (TypeError, ValueError):
            return plain(str(value))

    return text


def pairs_of(field: str) -> Callable[[Row], str]:
    """A flat object as `name=value, name=value`."""

    def text(row: Row) -> str:
        return plain(", ".join(f"{name}={value}" for name, value in (row.get(field) or {}).items()))

    return text


def list_of(field: str) -> Callable[[Row], str]:
    """The texts of a list; nothing where none is said, and `none` for an empty one."""

    def text(row: Row) -> str:
        value = row.get(field)
        return "" if value is None else plain(", ".join(map(str, value))) or "none"

    return text


def rate_limits_of(row: Row) -> str:
    """As `--rate-limit` takes them; nothing where none are said, and `none` for an empty list."""
    limits = row.get("rateLimits")
    if limits is None:
        return ""
    shown = (
        f"{one.get('name')}={one.get('limit')}/{one.get('windowSeconds')}"
        + ("/edge" if one.get("scope") == "edge" else "")
        for one in limits
    )
    return plain(", ".join(shown)) or "none"


def quotas_of(row: Row) -> str:
    """As `--quota` takes them; nothing where none are said, and `none` for an empty list."""
    quotas = row.get("quotas")
    if quotas is None:
        return ""
    shown = (
        f"{one.get('name')}={one.get('limit')}/{one.get('period')}"
        + (f"@{one.get('anchor')}" if one.get("anchor", 1) != 1 else "")
        + (f"/{one.get('timeZone')}" if one.get("timeZone", "UTC") != "UTC" else "")
        for one in quotas
    )
    return plain(", ".join(shown)) or "none"


def state_of(row: Row) -> str:
    """Whether it is switched on, and if not who switched it off where that is said."""
    if row.get("enabled", True):
        return "on"
    return plain(f"off, by the {row['disabledBy']}") if row.get("disabledBy") else "off"


def json_of(field: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        value = row.get(field)
        return plain(json.dumps(value, ensure_ascii=False)) if value else ""

    return text


def plain(text: str) -> str:
    """The text with everything that could steer a terminal written as an escape such as ``\\x1b``."""
    return _STEERING.sub(lambda at: at[0].encode("unicode_escape").decode("ascii"), text)


def plain_json(text: str) -> str:
    """Indented JSON with everything that could steer a terminal written as an escape of JSON, such as ``\\u001b``."""
    return re.sub(r"[^\n]*", lambda line: _STEERING.sub(lambda at: f"\\u{ord(at[0]):04x}", line[0]), text)
