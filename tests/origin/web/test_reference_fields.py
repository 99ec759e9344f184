"""Any schema that OpenAPI 3.1 allows is read, and told in words."""

from __future__ import annotations

from typing import Any

import pytest

from keywright.origin.web.reference.fields import FieldReader, Limit
from keywright.origin.web.reference.prose import blocks_of
from keywright.origin.web.reference.schemas import Schemas

DOCUMENT = {
    "components": {
        "schemas": {
            "Name": {"type": "string", "maxLength": 5, "description": "its own"},
            "Tree": {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/T"}}}},
            "Loop": {"$ref": "#/components/schemas/Loop"},
            "a/b~c d": {"type": "boolean"},
        }
    },
    "$defs": {"T": {"$ref": "#/components/schemas/Tree"}},
}
NAME = {"$ref": "#/components/schemas/Name"}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": "string", "format": "date-time"}, "string (date-time)"),
        ({"type": ["string", "null"]}, "string or null"),
        ({"type": ["string", "integer"]}, "string or integer"),
        ({"anyOf": [NAME, {"type": "null"}]}, "string or null"),
        ({"oneOf": [NAME, {"type": "object", "properties": {"a": {}}}]}, "string or object"),
        ({"anyOf": [{"anyOf": [NAME, {"type": "null"}]}, {"type": "integer"}]}, "string or integer or null"),
        ({"type": "null"}, "null"),
        ({"anyOf": [{"type": "null"}]}, "null"),
        ({"type": "array"}, "array"),
        ({"type": "array", "items": NAME}, "array of strings"),
        ({"type": "array", "items": {"type": "array", "items": NAME}}, "array of arrays of strings"),
        ({"type": "array", "items": {"type": "string", "format": "uri"}}, "array of strings (uri)"),
        ({"type": "array", "items": {"anyOf": [NAME, {"type": "integer"}]}}, "array of (string or integer)"),
        ({"type": "array", "items": {}}, "array of anything"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object of integers"),
        ({"type": "object", "additionalProperties": True}, "object"),
        ({"type": "object", "patternProperties": {"^x": {"type": "integer"}}}, "object of integers"),
        ({"properties": {"a": {}}}, "object"),
        ({"const": 1}, "integer"),
        ({"enum": ["a", None]}, "string or null"),
        ({"allOf": [NAME, {"minLength": 2}]}, "string"),
        ({"$ref": "#/components/schemas/a~1b~0c%20d"}, "boolean"),
        ({"$ref": "#/components/schemas/Loop"}, "object"),
        ({"$ref": "#/nowhere/0"}, "any"),
        ({"$ref": "other.json#/a"}, "any"),
        ({}, "any"),
        (True, "any"),
        (None, "any"),
    ],
)
def test_the_type_of_a_value_is_said_in_words(schema: Any, words: str) -> None:
    assert FieldReader(Schemas(DOCUMENT)).field_of("x", schema).type == words


@pytest.mark.parametrize(
    ("schema", "limits"),
    [
        ({"type": "string", "minLength": 3, "maxLength": 9}, [Limit("3 to 9 characters")]),
        ({"type": "string", "minLength": 3, "maxLength": 3}, [Limit("3 characters")]),
        ({"type": "string", "minLength": 0, "maxLength": 1}, [Limit("at most 1 character")]),
        ({"type": "string", "pattern": "^a$"}, [Limit("matches", "^a$")]),
        ({"type": "string", "format": "date", "pattern": "^a$"}, []),
        ({"type": "integer", "minimum": 0}, [Limit("at least 0")]),
        ({"type": "integer", "exclusiveMinimum": 1, "multipleOf": 2},
         [Limit("more than", "1"), Limit("a multiple of", "2")]),
        ({"type": "array", "maxItems": 2, "uniqueItems": True, "items": NAME},
         [Limit("at most 2 items"), Limit("no item twice"), Limit("each item: at most 5 characters")]),
        ({"type": "object", "maxProperties": 1, "propertyNames": {"minLength": 1}, "additionalProperties": NAME},
         [Limit("at most 1 field"), Limit("names: at least 1 character"), Limit("values: at most 5 characters")]),
        ({"type": "object", "patternProperties": {"^x": {}}}, [Limit("names: matches", "^x")]),
        ({"anyOf": [NAME, {"type": "null"}]}, [Limit("at most 5 characters")]),
    ],
)  # fmt: skip
def test_the_limits_of_a_value_are_said_in_words(schema: Any, limits: list[Limit]) -> None:
    assert list(FieldReader(Schemas(DOCUMENT)).field_of("x", schema).limits) == limits


def test_words_beside_a_reference_win_over_those_behind_it() -> None:
    field = FieldReader(Schemas(DOCUMENT)).field_of("x", {**NAME, "description": "here"})
    assert field.description == blocks_of("here")
    assert FieldReader(Schemas(DOCUMENT)).field_of("x", NAME).description == blocks_of("its own")


def test_a_shape_that_holds_itself_ends() -> None:
    field = FieldReader(Schemas(DOCUMENT)).field_of("x", {"$ref": "#/components/schemas/Tree"})
    assert field.fields[0].name == "children"


def test_parts_of_a_whole_are_laid_over_each_other() -> None:
    first = {"properties": {"a": {"type": "string"}}, "required": ["a"]}
    second = {"properties": {"b": {"type": "integer"}}, "required": ["b"]}
    fields = FieldReader(Schemas({})).fields_of({"allOf": [first, second]})
    assert [(field.name, field.is_required) for field in fields] == [("a", True), ("b", True)]


def test_several_shapes_are_told_apart_by_their_names() -> None:
    document = {"S": {"One": {"properties": {"a": {}}}, "Two": {"properties": {"b": {}}}}}
    fields = FieldReader(Schemas(document)).fields_of({"oneOf": [{"$ref": "#/S/One"}, {"$ref": "#/S/Two"}]})
    assert [(field.name, field.fields[0].name) for field in fields] == [("One", "a"), ("Two", "b")]
