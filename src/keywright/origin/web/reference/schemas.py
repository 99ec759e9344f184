"""Owns the reading of JSON Schemas (OpenAPI 3.1): references followed, parts put together, alternatives told apart.

Every schema that the standard allows is read. What a page says of one is in fields.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

Schema = Mapping[str, Any]
Seen = frozenset[str]
"""The references that were followed on the way to a schema."""

NOTHING_SEEN: Seen = frozenset()


@dataclass(frozen=True, slots=True)
class Schemas:
    """The schemas of one document, whose references it follows."""

    document: Mapping[str, Any]

    def resolve(self, node: Any) -> Mapping[str, Any]:
        """The object that a node is or refers to; words beside a `$ref` win over those behind it. {} if it is none."""
        return self._follow(node, NOTHING_SEEN)[0]

    def options_of(self, schema: Any, seen: Seen) -> tuple[list[dict[str, Any]], bool, Seen]:
        """The shapes that a value may have, null apart from them."""
        node, seen = self._flat(schema, seen)
        alternatives = node.pop("anyOf", None) or node.pop("oneOf", None)
        is_nullable = False
        if isinstance(alternatives, list):
            options: list[dict[str, Any]] = []
            for one in alternatives:
                inner, inner_nullable, inner_seen = self.options_of(one, seen)
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
            properties = {**properties_of(whole), **properties_of(flat)}
            required = [*required_of(whole), *required_of(flat)]
            whole = {**whole, **flat}
            if properties:
                whole["properties"] = properties
            if required:
                whole["required"] = required
        return whole, seen

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


def is_array(node: Schema) -> bool:
    return node.get("type") == "array"


def properties_of(node: Schema) -> Mapping[str, Any]:
    found = node.get("properties")
    return found if isinstance(found, Mapping) else {}


def rest_of(node: Schema) -> Schema | None:
    """What an object holds besides its named properties; None if it is not told."""
    patterns = list(patterns_of(node).values())
    found = patterns[0] if len(patterns) == 1 else node.get("additionalProperties")
    return found if isinstance(found, Mapping) else None


def patterns_of(node: Schema) -> Mapping[str, Any]:
    found = node.get("patternProperties")
    return found if isinstance(found, Mapping) else {}


def required_of(node: Schema) -> list[str]:
    found = node.get("required")
    return found if isinstance(found, list) else []


def _is_untitled(node: Any) -> bool:
    return isinstance(node, Mapping) and "title" not in node and "$ref" not in node
