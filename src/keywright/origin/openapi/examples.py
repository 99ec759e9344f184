"""Owns the examples of the OpenAPI document: put together from those of the fields, so that they fit the schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BY_TYPE: Mapping[str, Any] = {"boolean": True, "integer": 0, "number": 0, "string": "..."}


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """A value of this schema; what may be null and has no example of its own is null."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "examples" in schema:
        return schema["examples"][0]
    if "anyOf" in schema:
        choices = schema["anyOf"]
        return None if {"type": "null"} in choices else example_of(choices[0], schemas)
    return _plain(schema, schemas)


def _plain(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    for word in ("default", "const"):
        if word in schema:
            return schema[word]
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "array":
        return [example_of(schema["items"], schemas)]
    if schema["type"] != "object":
        return _BY_TYPE[schema["type"]]
    # What is shown on request only would make every example a long one.
    required = schema.get("required", ())
    return {
        name: example_of(field, schemas)
        for name, field in schema.get("properties", {}).items()
        if name in required or "default" in field or "examples" in field
    }
