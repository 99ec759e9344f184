"""Owns what the reference says of a value: its type in words, its limits, its choices, and the fields in it.

What can't be said of a schema is left out, never an error: the document is the truth, this is its picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from keywright.origin.web.reference.prose import Block, blocks_of
from keywright.origin.web.reference.schemas import (
    NOTHING_SEEN,
    Schema,
    Schemas,
    Seen,
    is_array,
    patterns_of,
    properties_of,
    required_of,
    rest_of,
)

MAX_DEPTH = 8
"""How deep shapes are expanded. A shape that holds itself ends at its second mention."""

_TYPE_OF = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


@dataclass(frozen=True, slots=True)
class Field:
    """A named value: a property of an object, a parameter or a header."""

    name: str
    type: str
    is_required: bool = False
    is_deprecated: bool = False
    description: tuple[Block, ...] = ()
    limits: tuple[Limit, ...] = ()
    choices: tuple[str, ...] = ()
    default: str | None = None
    fields: tuple[Field, ...] = ()
    fields_label: str = ""
    is_option: bool = False
    """Not a value that is named, but one of the shapes that a value may have."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One rule that a value keeps; `code` is a pattern or a value, shown as it is."""

    words: str
    code: str = ""


class FieldReader:
    """Reads the values of one document, whose schemas it is given."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def field_of(self, name: str, schema: Any, *, is_required: bool = False, seen: Seen = NOTHING_SEEN) -> Field:
        """What a page says of a value, its inner fields included."""
        options, _, inner = self._schemas.options_of(schema, seen)
        first = options[0] if len(options) == 1 else self._schemas.resolve(schema)
        return Field(
            name=name,
            type=self._type_of(schema, seen),
            is_required=is_required,
            is_deprecated=first.get("deprecated") is True,
            description=blocks_of(str(first.get("description") or "")),
            limits=tuple(self._limits(schema, seen)),
            choices=tuple(dict.fromkeys(self._choices(schema, seen))),
            default=_shown(first["default"]) if first.get("default") not in (None, "", [], {}) else None,
            fields=self._fields_of_options(options, inner),
            fields_label="Fields of each item" if any(is_array(option) for option in options) else "Fields",
        )

    def fields_of(self, schema: Any) -> tuple[Field, ...]:
        """The fields of an object, or of each item of an array."""
        return self.field_of("", schema).fields

    def _fields_of_options(self, options: Iterable[Schema], seen: Seen) -> tuple[Field, ...]:
        found = [(option, fields) for option in options if (fields := self._children(option, seen))]
        if len(found) < 2:
            return found[0][1] if found else ()
        # Several shapes: each is a field of its own, named as the document names it.
        return tuple(
            Field(str(option.get("title") or f"shape {number}"), "one of these shapes", fields=fields, is_option=True)
            for number, (option, fields) in enumerate(found, 1)
        )

    def _children(self, node: Schema, seen: Seen) -> tuple[Field, ...]:
        if len(seen) > MAX_DEPTH:
            return ()
        if is_array(node):
            return self.field_of("", node["items"], seen=seen).fields if "items" in node else ()
        required = required_of(node)
        fields = [
            self.field_of(name, schema, is_required=name in required, seen=seen)
            for name, schema in properties_of(node).items()
        ]
        rest = rest_of(node)
        if rest is not None:
            any_field = self.field_of("<name>", rest, seen=seen)
            # Scalars are told in the type of the object itself.
            if fields or any_field.fields:
                fields.append(replace(any_field, name="<any other name>" if fields else "<name>"))
        return tuple(fields)

    def _type_of(self, schema: Any, seen: Seen) -> str:
        options, is_nullable, seen = self._schemas.options_of(schema, seen)
        words = " or ".join(dict.fromkeys(self._type_of_option(option, seen) for option in options))
        return f"{words} or null" if is_nullable and words not in {"any", "null"} else words

    def _type_of_option(self, node: Schema, seen: Seen) -> str:
        kind = node.get("type")
        if not isinstance(kind, str):
            return _type_of_values(node) or ("object" if properties_of(node) else "any")
        rest = rest_of(node)
        if kind == "array" and "items" in node:
            return f"array of {_plural(self._type_of(node['items'], seen))}"
        if kind == "object" and not properties_of(node) and rest is not None:
            return f"object of {_plural(self._type_of(rest, seen))}"
        if kind in {"string", "integer", "number"} and isinstance(node.get("format"), str):
            return f"{kind} ({node['format']})"
        return kind

    def _choices(self, schema: Any, seen: Seen) -> Iterable[str]:
        options, _, seen = self._schemas.options_of(schema, seen)
        for node in options:
            if "const" in node:
                yield _shown(node["const"])
            elif isinstance(node.get("enum"), list):
                yield from (_shown(one) for one in node["enum"])
            elif is_array(node) and "items" in node:
                yield from self._choices(node["items"], seen)
            elif (rest := rest_of(node)) is not None and not properties_of(node):
                yield from self._choices(rest, seen)

    def _limits(self, schema: Any, seen: Seen) -> Iterable[Limit]:
        options, _, seen = self._schemas.options_of(schema, seen)
        for node in options:
            yield from _limits_of_option(node)
            inner = {"names": node.get("propertyNames"), "values": rest_of(node), "each item": node.get("items")}
            for words, one in inner.items():
                if one is not None:
                    yield from (Limit(f"{words}: {limit.words}", limit.code) for limit in self._limits(one, seen))
            for pattern in patterns_of(node):
                yield Limit("names: matches", pattern)


def _range(node: Schema, least: str, most: str, unit: str) -> Iterable[Limit]:
    low, high = node.get(least), node.get(most)
    # "at least 0 characters" says nothing.
    low = None if unit and low == 0 else low
    units = f" {unit}" + ("" if (high if high is not None else low) == 1 else "s") if unit else ""
    if low is not None and high is not None:
        yield Limit(f"{low}{units}" if low == high else f"{low} to {high}{units}")
    elif high is not None:
        yield Limit(f"at most {high}{units}")
    elif low is not None:
        yield Limit(f"at least {low}{units}")


def _limits_of_option(node: Schema) -> Iterable[Limit]:
    yield from _range(node, "minLength", "maxLength", "character")
    yield from _range(node, "minimum", "maximum", "")
    yield from _range(node, "minItems", "maxItems", "item")
    yield from _range(node, "minProperties", "maxProperties", "field")
    for name, words in (
        ("exclusiveMinimum", "more than"),
        ("exclusiveMaximum", "less than"),
        ("multipleOf", "a multiple of"),
        ("pattern", "matches"),
    ):
        # A format says what its pattern means, and is shorter.
        if name == "pattern" and "format" in node:
            continue
        if isinstance(node.get(name), str | int | float) and not isinstance(node[name], bool):
            yield Limit(words, str(node[name]))
    if node.get("uniqueItems") is True:
        yield Limit("no item twice")


def _type_of_values(node: Schema) -> str:
    """The type of a schema that only lists its values."""
    values = [node["const"]] if "const" in node else node.get("enum")
    return " or ".join(dict.fromkeys(_TYPE_OF.get(type(one), "null") for one in values or ()))


def _plural(words: str) -> str:
    """`string (date-time)` -> `strings (date-time)`; a choice is put in brackets."""
    if words == "any":
        return "anything"
    if " or " in words:
        return f"({words})"
    first, space, rest = words.partition(" ")
    return f"{first}s{space}{rest}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
