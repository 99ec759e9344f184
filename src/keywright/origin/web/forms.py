"""Owns what people type: the fields of a sent form, read into values, with what is wrong said beside each field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import parse_qsl

from fastapi import Request

from keywright.domain import scopes, text
from keywright.domain.keyformat import find_prefix_fault
from keywright.domain.networks import MAX_NETWORKS, parse_network
from keywright.domain.problems import BadRequest, Problem, UnsupportedMediaType
from keywright.domain.text import is_whole
from keywright.domain.unset import UNSET, Unset
from keywright.origin.pipeline.body import NOT_TEXT, parse_json, read_weighed
from keywright.origin.pipeline.rate_limit import Meter

MAX_FORM_BYTES = 256 * 1024
MAX_FIELDS = 500
FORM_TYPE = "application/x-www-form-urlencoded"

NEVER, NOW, CUSTOM = "never", "now", "on"
INHERITED, OWN = "inherited", "own"
SPANS = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "1y": timedelta(days=365),
}
"""The times from now on that forms offer, by the value of the choice."""


class Form:
    """The fields of a form by name: as they are shown first, or as they were sent.

    Each reading method returns the value of a field, or notes an error and returns a stand-in; `check` then raises.
    """

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields
        self.errors: dict[str, str] = {}
        self.message = ""
        """What is wrong with the form as a whole."""

    @classmethod
    def initial(cls, **values: str | list[str] | None) -> Self:
        """A form that is shown for the first time."""
        return cls({name: value if isinstance(value, list) else [value or ""] for name, value in values.items()})

    @classmethod
    async def read(cls, request: Request, most: int, meter: Meter | None) -> Self:
        """The form in a request's body of at most so many bytes, which counts at the meter.

        Raises a Problem for what no browser would send.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
            raise UnsupportedMediaType(f"Forms are sent as {FORM_TYPE}.")
        most = min(most, MAX_FORM_BYTES)
        body = await read_weighed(request, most, f"The form is larger than {most // 1024} KiB.", meter)
        fields: dict[str, list[str]] = {}
        try:
            pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        except ValueError:
            raise BadRequest("The form can't be read.") from None
        for name, value in pairs:
            if NOT_TEXT.search(value) or NOT_TEXT.search(name):
                raise BadRequest("The form has a character that can't be stored.")
            # HTML section 4.10.11: text areas send CRLF, whatever was typed.
            fields.setdefault(name, []).append(value.replace("\r\n", "\n"))
        return cls(fields)

    def kept(self) -> list[tuple[str, str]]:
        """What a person typed or chose: every field but those that bind a form to its page."""
        bound = ("csrf", "form")
        return [(name, value) for name, values in self._fields.items() if name not in bound for value in values]

    def or_initial(self, **values: str | list[str] | None) -> Form:
        """This form if it was sent, else one that is shown for the first time with these values."""
        return self if self._fields else Form.initial(**values)

    def get(self, name: str, default: str = "") -> str:
        """As it was typed."""
        return self._fields.get(name, [default])[0]

    def all(self, name: str) -> list[str]:
        return self._fields.get(name, [])

    def asks(self, name: str) -> bool:
        """Whether the form has such a field at all."""
        return name in self._fields

    def is_on(self, name: str) -> bool:
        return bool(self.get(name))

    def empty(self, name: str) -> None:
        """Forgets what was typed: a browser complains of a date field that holds no date."""
        self._fields = {**self._fields, name: [""]}

    def fail(self, name: str, message: str) -> None:
        """The first complaint about a field stands."""
        self.errors.setdefault(name, message)

    def line(self, name: str, *, most: int, is_required: bool = False) -> str | None:
        """None if nothing was typed."""
        value = self.get(name).strip()
        if len(value) > most:
            self.fail(name, f"must have at most {most:,} characters")
        if not value and is_required:
            self.fail(name, "is required")
        return value or None

    def description(self) -> str | None:
        return self.line("description", most=text.DESCRIPTION)

    def key_prefix(self) -> str:
        prefix = self.get("key_prefix").strip()
        fault = find_prefix_fault(prefix) if prefix else "is required"
        if fault is not None:
            self.fail("key_prefix", fault)
        return prefix

    def name(self, name: str, pattern: str, words: str) -> str:
        value = self.get(name).strip()
        if not value:
            self.fail(name, "is required")
        elif not is_whole(pattern, value):
            self.fail(name, f"must be {words}")
        return value

    def whole(self, name: str, *, least: int, most: int) -> int | None:
        """A whole number; None if nothing was typed."""
        typed = self.get(name).strip()
        if not typed:
            return None
        if not (typed.isascii() and typed.isdecimal() and len(typed) < 18 and least <= int(typed) <= most):
            self.fail(name, f"must be a whole number from {least:,} to {most:,}")
            return None
        return int(typed)

    def choice(self, name: str, choices: Iterable[str]) -> str:
        value, allowed = self.get(name), list(choices)
        if value not in allowed:
            self.fail(name, "must be one of the options")
            return allowed[0]
        return value

    def typed(self, expected: str) -> None:
        """Raises BadRequest unless the name of what is to be deleted was typed."""
        if self.get("typed").strip() != expected:
            self.fail("typed", f"must be “{expected}”")
        self.check()

    def email(self, name: str = "email") -> str:
        """One address, in lower case."""
        value = self.line(name, most=text.EMAIL_LENGTH, is_required=True) or ""
        if value and not text.is_email(value):
            self.fail(name, "must be an e-mail address")
        return value.lower()

    def emails(self, name: str, *, most: int) -> list[str]:
        """Addresses on lines of their own, or with commas between them; each once."""
        parts = _split(self.get(name))
        for one in parts:
            # As it was written: in lower case a letter of another script may be an ASCII one.
            if not text.is_email(one):
                self.fail(name, f"“{_short(one)}” is not an e-mail address")
        found = dict.fromkeys(part.lower() for part in parts)
        if len(found) > most:
            self.fail(name, f"must be at most {most}")
        return list(found)

    def tags(self, name: str = "tags") -> dict[str, str]:
        """`name=value` on each line."""
        tags: dict[str, str] = {}
        for line in self.get(name).splitlines():
            if not line.strip():
                continue
            tag, separator, value = (part.strip() for part in line.partition("="))
            if not separator or not tag:
                self.fail(name, f"“{_short(line.strip())}” is not name=value")
            elif len(tag) > text.TAG_NAME:
                self.fail(name, f"a tag's name must have at most {text.TAG_NAME} characters")
            elif len(value) > text.TAG_VALUE:
                self.fail(name, f"the value of “{_short(tag)}” must have at most {text.TAG_VALUE} characters")
            elif tags.setdefault(tag, value) != value:
                self.fail(name, f"“{_short(tag)}” is repeated")
        return tags

    def own_scopes(self) -> list[str] | Unset | None:
        """Those of a key or a consumer; None if it has what it inherits, UNSET if the form does not ask."""
        if not self.asks("scopes_from"):
            return UNSET
        return self.scopes() if self.choice("scopes_from", (INHERITED, OWN)) == OWN else None

    def scopes(self, name: str = "scopes") -> list[str]:
        """Scopes on lines of their own, or with commas or spaces between them; each once."""
        found = _split(self.get(name))
        fault = scopes.find_fault(found)
        if fault is not None:
            self.fail(name, fault)
        return found

    def allowed_ips(self, name: str = "allowed_ips") -> list[str] | Unset | None:
        """Addresses and networks, as scopes are typed; None if there are none: it may be used from everywhere. UNSET
        if the form does not ask.
        """
        if not self.asks(name):
            return UNSET
        networks: list[str] = []
        for part in _split(self.get(name)):
            try:
                networks.append(str(parse_network(part)))
            except ValueError as error:
                self.fail(name, f"“{_short(part)}” {error}")
        if len(networks) > MAX_NETWORKS:
            self.fail(name, f"must be at most {MAX_NETWORKS}")
        return list(dict.fromkeys(networks)) or None

    def metadata(self, name: str = "metadata") -> dict[str, Any]:
        """A JSON object; nothing is an empty one."""
        value: Any = {}
        if self.get(name).strip():
            try:
                value = parse_json(self.get(name).encode(), MAX_FORM_BYTES // 2)
            except Problem as problem:
                place = problem.errors[0]["field"].removeprefix("body").removeprefix(".")
                self.fail(name, f"{place} {problem.errors[0]['message']}".strip())
                return {}
        if not isinstance(value, dict):
            self.fail(name, 'must be a JSON object, such as {"plan": "gold"}')
            return {}
        return value

    def expiry(self, now: datetime, name: str = "expires") -> datetime | None:
        """A time to come: one of SPANS from now on, or the one in the field `<name>_at`, in UTC; None is never."""
        chosen = self.choice(name, (NEVER, NOW, CUSTOM, *SPANS))
        if chosen in SPANS:
            return now + SPANS[chosen]
        if chosen != CUSTOM:
            return None
        at = f"{name}_at"
        try:
            moment = datetime.fromisoformat(self.get(at)).replace(tzinfo=UTC)
        except ValueError:
            self.fail(at, "must be a date and a time, such as 2027-01-31T12:00")
            return None
        if moment <= now:
            self.fail(at, "must be in the future")
        return moment

    def check(self) -> None:
        """Raises BadRequest if anything is wrong so far."""
        if self.errors:
            fields = [{"field": f"body.{name}", "message": message} for name, message in self.errors.items()]
            raise BadRequest("Check the fields below.", errors=fields)

    def explain(self, problem: Problem, conflict: str | None) -> None:
        """Puts a refusal beside the fields that it is about; `conflict` is the one that may be taken."""
        for error in problem.errors:
            _, _, field = error["field"].partition(".")
            self.fail(field.partition(".")[0], error["message"])
        if problem.status == 409 and conflict:
            self.fail(conflict, problem.detail or problem.title)
        self.message = "Check the fields below." if self.errors else problem.detail or problem.title


def restriction_fields(scopes: Sequence[str] | None, allowed_ips: Sequence[str] | None) -> dict[str, str]:
    """The fields of a form that `own_scopes` and `allowed_ips` read, as they are shown first."""
    return {**scope_fields(scopes), "allowed_ips": "\n".join(allowed_ips or ())}


def scope_fields(scopes: Sequence[str] | None) -> dict[str, str]:
    """The fields that `own_scopes` reads."""
    return {"scopes_from": INHERITED if scopes is None else OWN, "scopes": "\n".join(scopes or ())}


def tags_text(tags: Mapping[str, str]) -> str:
    """Tags as they are typed."""
    return "\n".join(f"{name}={value}" for name, value in tags.items())


def _split(value: str) -> list[str]:
    """What stands on lines of its own, or between commas or spaces; each once."""
    return list(dict.fromkeys(part for part in re.split(r"[\s,;]+", value) if part))


def _short(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:40]}…"
