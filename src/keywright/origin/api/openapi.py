"""Owns the OpenAPI document of the Developer API: what the framework can't tell of it by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from keywright.origin.api.fields import ProblemDocument

DESCRIPTION = """Manage buckets, consumers and API keys.

Every request carries a management key: `Authorization: Bearer <key>`. A key sees its own account; what belongs to
another account is answered with 404. Lists are answered newest first as `{data, limit, offset, total}`. Refusals are
problem documents (RFC 9457) whose `errors` name the fields. A change has happened when the call returns: a revoked key
is refused from the next request on."""

TAGS = [
    {"name": "Accounts", "description": "Tenants, their projects and management keys."},
    {"name": "Buckets", "description": "Top-level groups of consumers, their owner keys, and sharing them."},
    {"name": "Consumers", "description": "The identities that keys authenticate as."},
    {"name": "Keys", "description": "The credentials of a consumer."},
    {"name": "Managers", "description": "End users who look after a consumer's keys, and invites."},
    {"name": "Audit log", "description": "Every change, and every attempt that was refused."},
]


def document_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The function that makes the document once, at its first use."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    description=app.description,
                    routes=app.routes,
                    tags=TAGS,
                )
            )
        return app.openapi_schema

    return openapi


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["ProblemDocument"] = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schemas["ProblemDocument"].pop("$defs", {}))
    components["securitySchemes"] = {
        "managementKey": {"type": "http", "scheme": "bearer", "description": "A management key."}
    }
    document["security"] = [{"managementKey": []}]
    for path in document["paths"].values():
        for operation in path.values():
            # Invalid data is answered with 400 here; 422 is what the framework would say by itself.
            operation["responses"].pop("422", None)
    return document
