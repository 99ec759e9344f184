"""Owns the reading of JSON Schemas (OpenAPI 3.1): what a page says of a value, and an example of it.

Every schema that the standard allows is read; what a page can't say of one is left out, never an error: the document
is the truth, this is its picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from keywright.origin.web.reference.prose import Block, blocks_of

Schema = Mapping[str, Any]
Seen = frozenset[str]

MAX_DEPTH = 8
"""How deep shapes are expanded. A shape that holds itself ends at its second mention."""

_NOTHING: Seen = frozenset()
_MISSING: Any = object()
_TYPE_OF = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
_FORMATS = {
    "date-time": "2027-01-31T12:00:00.000Z",
    "date": "2027-01-31",
    "time": "12:00:00Z",
    "email": "ada@example.com",
    "uuid": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """One rule that a value keeps; `code` is a pattern or a value, shown as it is."""

    words: str
    code: str = ""


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


@dataclass(frozen=True)
class Schemas:
    """The schemas of one document, whose references it follows."""

    document: Mapping[str, Any]
    _pointed: dict[str, Any] = field(default_factory=dict)

    def resolve(self, node: Any) -> Mapping[str, Any]:
        """The object that a node is or refers to; words beside a `$ref` win over those behind it. {} if it is none."""
        return self._follow(node, _NOTHING)[0]

    def field_of(self, name: str, schema: Any, *, is_required: bool = False, seen: Seen = _NOTHING) -> Field:
        """What a page says of a value, its inner fields included."""
        options, _, inner = self._options(schema, seen)
        first = options[0] if len(options) == 1 else self.resolve(schema)
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
            fields_label="Fields of each item" if any(_is_array(option) for option in options) else "Fields",
        )

    def fields_of(self, schema: Any) -> tuple[Field, ...]:
        """The fields of an object, or of each item of an array."""
        return self.field_of("", schema).fields

    def example_of(self, schema: Any, *, is_request: bool) -> Any:
        """A value that fits: what the document gives as an example, or one made from the schema.

        A request holds what is required and what has an example of its own; an answer holds every field.
        """
        return self._example(schema, is_request, _NOTHING, 0)

    def _follow(self, node: Any, seen: Seen) -> tuple[dict[str, Any], Seen]:
        beside: dict[str, Any] = {}
        while isinstance(node, Mapping) and isinstance(node.get("$ref"), str):
            ref = node["$ref"]
            beside = {**{key: value for key, value in node.items() if key != "$ref"}, **beside}
            if ref in seen:
                return {"type": "object", "title": ref.rpartition("/")[2], **beside}, seen
            seen |= {ref}
            node = self._at(ref)
            # A shape without a title of its own has the name that it is referred to by.
            beside = {"title": ref.rpartition("/")[2], **beside} if _is_untitled(node) else beside
        return ({**node, **beside} if isinstance(node, Mapping) else beside), seen

    def _at(self, ref: str) -> Any:
        """What a local reference points to (RFC 6901); None if it points nowhere or to another document."""
        if not ref.startswith("#"):
            return None
        node: Any = self.document
        for part in ref[1:].split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(node, Mapping):
                node = node.get(name)
            elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            else:
                return None
        return node

    def _flat(self, schema: Any, seen: Seen) -> tuple[dict[str, Any], Seen]:
        """A schema with its references followed and the parts of its `allOf` laid over each other."""
        node, seen = self._follow(schema, seen)
        parts = node.pop("allOf", None)
        if not isinstance(parts, list):
            return node, seen
        whole: dict[str, Any] = {}
        for part in [*parts, node]:
            flat, inner = self._flat(part, seen) if part is not node else (node, seen)
            seen |= inner
            properties = {**_properties(whole), **_properties(flat)}
            required = [*_required(whole), *_required(flat)]
            whole = {**whole, **flat}
            if properties:
                whole["properties"] = properties
            if required:
                whole["required"] = required
        return whole, seen

    def _options(self, schema: Any, seen: Seen) -> tuple[list[dict[str, Any]], bool, Seen]:
        """The shapes that a value may have, null apart from them."""
        node, seen = self._flat(schema, seen)
        given = node.pop("anyOf", None) or node.pop("oneOf", None)
        is_nullable = False
        if isinstance(given, list):
            options: list[dict[str, Any]] = []
            for one in given:
                inner, inner_nullable, inner_seen = self._options(one, seen)
                is_nullable |= inner_nullable
                seen |= inner_seen
                options += inner
            kept = [option for option in options if option.get("type") != "null"]
            is_nullable |= len(kept) < len(options)
            if len(kept) == 1:
                return [{**kept[0], **node}], is_nullable, seen
            return kept or [{"type": "null"}], is_nullable, seen
        types = node.get("type")
        if isinstance(types, list):
            kept_types = [one for one in types if one != "null"]
            is_nullable = len(kept_types) < len(types)
            return [{**node, "type": one} for one in kept_types] or [{"type": "null"}], is_nullable, seen
        return [node], False, seen

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
        if _is_array(node):
            return self.field_of("", node["items"], seen=seen).fields if "items" in node else ()
        required = _required(node)
        fields = [
            self.field_of(name, schema, is_required=name in required, seen=seen)
            for name, schema in _properties(node).items()
        ]
        rest = _rest(node)
        if rest is not None:
            any_field = self.field_of("<name>", rest, seen=seen)
            # Scalars are told in the type of the object itself.
            if fields or any_field.fields:
                fields.append(replace(any_field, name="<any other name>" if fields else "<name>"))
        return tuple(fields)

    def _type_of(self, schema: Any, seen: Seen) -> str:
        options, is_nullable, seen = self._options(schema, seen)
        words = " or ".join(dict.fromkeys(self._type_of_option(option, seen) for option in options))
        return f"{words} or null" if is_nullable and words not in {"any", "null"} else words

    def _type_of_option(self, node: Schema, seen: Seen) -> str:
        kind = node.get("type")
        if not isinstance(kind, str):
            return _type_of_values(node) or ("object" if _properties(node) else "any")
        rest = _rest(node)
        if kind == "array" and "items" in node:
            return f"array of {_plural(self._type_of(node['items'], seen))}"
        if kind == "object" and not _properties(node) and rest is not None:
            return f"object of {_plural(self._type_of(rest, seen))}"
        if kind in {"string", "integer", "number"} and isinstance(node.get("format"), str):
            return f"{kind} ({node['format']})"
        return kind

    def _choices(self, schema: Any, seen: Seen) -> Iterable[str]:
        options, _, seen = self._options(schema, seen)
        for node in options:
            if "const" in node:
                yield _shown(node["const"])
            elif isinstance(node.get("enum"), list):
                yield from (_shown(one) for one in node["enum"])
            elif _is_array(node) and "items" in node:
                yield from self._choices(node["items"], seen)
            elif (rest := _rest(node)) is not None and not _properties(node):
                yield from self._choices(rest, seen)

    def _limits(self, schema: Any, seen: Seen) -> Iterable[Limit]:
        options, _, seen = self._options(schema, seen)
        for node in options:
            yield from _limits_of_option(node)
            inner = {"names": node.get("propertyNames"), "values": _rest(node), "each item": node.get("items")}
            for words, one in inner.items():
                if one is not None:
                    yield from (Limit(f"{words}: {limit.words}", limit.code) for limit in self._limits(one, seen))
            for pattern in _patterns(node):
                yield Limit("names: matches", pattern)

    def _example(self, schema: Any, is_request: bool, seen: Seen, depth: int) -> Any:
        options, is_nullable, seen = self._options(schema, seen)
        for node in (self.resolve(schema), *options):
            if (given := _given_example(node)) is not _MISSING:
                return given
        node = options[0]
        if is_nullable or depth > MAX_DEPTH or len(seen) > MAX_DEPTH:
            return None
        if _is_array(node):
            return [self._example(node.get("items"), is_request, seen, depth + 1)] if "items" in node else []
        if _properties(node) or node.get("type") == "object":
            required = _required(node)
            return {
                name: self._example(one, is_request, seen, depth + 1)
                for name, one in _properties(node).items()
                if not is_request or name in required or self._has_example(one, seen)
            }
        return _scalar_example(node)

    def _has_example(self, schema: Any, seen: Seen) -> bool:
        options, _, _ = self._options(schema, seen)
        nodes = (self.resolve(schema), *options)
        return any(name in node for node in nodes for name in ("example", "examples"))


def _given_example(node: Schema) -> Any:
    examples = node.get("examples")
    if isinstance(examples, list) and examples:
        return examples[0]
    for name in ("example", "const"):
        if name in node:
            return node[name]
    if node.get("default") is not None:
        return node["default"]
    choices = node.get("enum")
    return choices[0] if isinstance(choices, list) and choices else _MISSING


def _scalar_example(node: Schema) -> Any:
    kind = node.get("type")
    if kind == "boolean":
        return True
    if kind in {"integer", "number"}:
        return node.get("minimum", 0)
    if kind == "null":
        return None
    return _FORMATS.get(str(node.get("format")), "string")


def _is_untitled(node: Any) -> bool:
    return isinstance(node, Mapping) and "title" not in node and "$ref" not in node


def _is_array(node: Schema) -> bool:
    return node.get("type") == "array"


def _properties(node: Schema) -> Mapping[str, Any]:
    found = node.get("properties")
    return found if isinstance(found, Mapping) else {}


def _rest(node: Schema) -> Schema | None:
    """What an object holds besides its named properties; None if it is not told."""
    patterns = list(_patterns(node).values())
    found = patterns[0] if len(patterns) == 1 else node.get("additionalProperties")
    return found if isinstance(found, Mapping) else None


def _patterns(node: Schema) -> Mapping[str, Any]:
    found = node.get("patternProperties")
    return found if isinstance(found, Mapping) else {}


def _required(node: Schema) -> list[str]:
    found = node.get("required")
    return found if isinstance(found, list) else []


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
