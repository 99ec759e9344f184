"""The published contract, as far as our tests need it: a compact copy of its structure, kept beside this file.

`python tests/origin/openapi/published.py ../shared/contract` makes the copy anew; a test compares it where it can.
Structure only: paths, methods, names, types and what is required. No descriptions and no examples.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

COPY = Path(__file__).parent / "contract"
DOCUMENTS = Path(__file__).parents[4] / "shared" / "contract"
KEPT = ("type", "format", "enum", "required", "nullable", "pattern", "minimum", "maximum", "default")


@dataclass(frozen=True)
class Operation:
    """One operation of the published contract. `parameters` are the names in the query."""

    group: str
    method: str
    path: str
    parameters: dict[str, dict[str, Any]]
    body: dict[str, Any] | None
    answers: dict[str, dict[str, Any] | None]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations() -> list[Operation]:
    """Every operation of the kept copy."""
    return [
        Operation(group=file.stem, **operation)
        for file in sorted(COPY.glob("*.json"))
        for operation in json.loads(file.read_text())
    ]


def body_examples() -> dict[str, Any]:
    """The published examples of bodies by operation; none where the documents are not at hand."""
    found = {}
    for file in sorted(DOCUMENTS.glob("*.openapi.yml")):
        document = yaml.safe_load(file.read_text())
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                body = _json_schema(operation.get("requestBody", {}))
                if body:
                    found[f"{method.upper()} {path}"] = _resolved(body, document)["example"]
    return found


def compact(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations of a published document, references resolved."""
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parameters = [_resolved(one, document) for one in operation.get("parameters", [])]
            body = _json_schema(operation.get("requestBody", {}))
            found.append(
                {
                    "method": method.upper(),
                    "path": path,
                    "parameters": {
                        one["name"]: _structure(one["schema"], document) for one in parameters if one["in"] == "query"
                    },
                    "body": _structure(body, document) if body else None,
                    "answers": {
                        status: _structure(schema, document) if (schema := _json_schema(answer)) else None
                        for status, answer in operation["responses"].items()
                        if status.startswith("2")
                    },
                }
            )
    return found


def _json_schema(holder: dict[str, Any]) -> dict[str, Any] | None:
    schema: dict[str, Any] | None = holder.get("content", {}).get("application/json", {}).get("schema")
    return schema


def _resolved(node: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    found: Any = document
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def _structure(schema: Any, document: dict[str, Any]) -> dict[str, Any]:
    schema = _resolved(schema, document)
    kept: dict[str, Any] = {word: schema[word] for word in KEPT if word in schema}
    if "properties" in schema:
        kept["properties"] = {name: _structure(one, document) for name, one in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = _structure(schema["additionalProperties"], document)
    if "items" in schema:
        kept["items"] = _structure(schema["items"], document)
    for word in ("allOf", "anyOf"):
        if word in schema:
            kept[word] = [_structure(one, document) for one in schema[word]]
    return kept


if __name__ == "__main__":
    COPY.mkdir(exist_ok=True)
    for source in sorted(Path(sys.argv[1]).glob("*.openapi.yml")):
        made = compact(yaml.safe_load(source.read_text()))
        target = COPY / f"{source.name.removesuffix('.openapi.yml')}.json"
        target.write_text(json.dumps(made, indent=1) + "\n")
