"""Owns how the OpenAPI document tells of the edge's endpoints, which another application serves at the same address."""

from __future__ import annotations

from typing import Any

from keywright.domain.names import BUCKET_NAME
from keywright.domain.verdict import Verdict
from keywright.origin.openapi.problem_responses import problem_response

_REFUSALS = [str(verdict) for verdict in (Verdict.MALFORMED, Verdict.UNKNOWN, Verdict.EXPIRED)]
_TEXT = {"type": "string"}
_MOMENT = {"type": "string", "format": "date-time", "examples": ["2027-01-31T12:00:00.000Z"]}
_TOKEN: list[dict[str, Any]] = [{}, {"validationToken": []}]
_NO_BUCKET = problem_response(404, "There is no such bucket.", "There is no such bucket.")
_NO_TOKEN = problem_response(
    403,
    "The deployment demands a management key in `Keywright-Token`, and this is none that may validate here.",
    "A management key that may validate in this bucket is required in Keywright-Token.",
)
_NOT_READY = problem_response(
    503,
    "The replica has no snapshot yet, is further behind than the bucket's owner allows, or has not applied what "
    "`Min-Revision` asks for.",
    "This replica has no snapshot of the record yet, or is further behind than the bucket's owner allows.",
)
_MIN_REVISION = {
    "name": "Min-Revision",
    "in": "header",
    "required": False,
    "description": "Answer only from a replica that has applied this change, as `Keywright-Revision` named it. "
    "One that has not is waited for, a moment; then the answer is 503.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1, "examples": [42]},
}
_BUCKET = {
    "name": "bucketName",
    "in": "path",
    "required": True,
    "description": "The name of the bucket.",
    "schema": {**_TEXT, "pattern": BUCKET_NAME, "examples": ["my-project-production"]},
}


def _object(description: str, *, optional: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "description": description, "properties": properties, "required": required}


SCHEMAS: dict[str, Any] = {
    "ValidateQuestion": _object(
        "A key of some request.",
        key={**_TEXT, "description": "The key.", "examples": ["zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"]},
    ),
    "ValidVerdict": _object(
        "The key is good.",
        valid={"const": True},
        code={"const": str(Verdict.VALID)},
        user=_object(
            "Whom the request comes from.",
            sub={**_TEXT, "description": "The consumer's name.", "examples": ["my-consumer"]},
            data={
                "type": "object",
                "description": "The consumer's metadata.",
                "additionalProperties": True,
                "examples": [{"plan": "gold"}],
            },
        ),
        consumer=_object(
            "The consumer.",
            id={**_TEXT, "examples": ["csmr_brw0leTAVw478VFKD4F6OqVI"]},
            name={**_TEXT, "examples": ["my-consumer"]},
        ),
        key=_object(
            "The key.",
            id={**_TEXT, "examples": ["key_m1m4ol223R0kGHGZY7tPQMQl"]},
            expiresOn={"anyOf": [_MOMENT, {"type": "null"}]},
        ),
    ),
    "InvalidVerdict": _object("The key is refused.", valid={"const": False}, code={**_TEXT, "enum": _REFUSALS}),
    "Readiness": _object(
        "Whether keys can be judged, and how far the replica is.",
        optional=("reason", "time_zones"),
        ready={"type": "boolean", "examples": [True]},
        synced={"type": "boolean", "examples": [True]},
        revision={"type": ["integer", "null"], "description": "The newest change that it has.", "examples": [42]},
        lag_seconds={
            "type": ["number", "null"],
            "description": "For how long it may have been out of step; null while that is not known.",
            "examples": [0],
        },
        since={**_MOMENT, "description": "Since when it is as it is."},
        reason={**_TEXT, "description": "Why it is not in step, where it is not and that is known."},
        time_zones={
            **_TEXT,
            "description": "At an origin: the edition of the rules by which quotas begin anew.",
            "examples": ["2026f"],
        },
    ),
    "Liveness": _object("The process answers.", alive={"const": True}),
    "JsonWebKeySet": _object(
        "Public keys (RFC 7517).",
        keys={
            "type": "array",
            "items": _object(
                "A key on the curve P-256.",
                kty={"const": "EC"},
                crv={"const": "P-256"},
                x={**_TEXT, "examples": ["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"]},
                y={**_TEXT, "examples": ["x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"]},
                kid={
                    **_TEXT,
                    "description": "As in the head of a token that it signed.",
                    "examples": ["oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"],
                },
                use={"const": "sig"},
                alg={"const": "ES256"},
            ),
        },
    ),
}


def _answer(description: str, schema: str | dict[str, Any]) -> dict[str, Any]:
    content = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    return {"description": description, "content": {"application/json": {"schema": content}}}


def _identity(name: str) -> dict[str, Any]:
    return {"description": f"{name}; empty unless the key is good.", "schema": _TEXT}


_IDENTITY = {
    "X-Consumer-Name": _identity("The consumer's name"),
    "X-Consumer-Id": _identity("The consumer's id"),
    "X-Key-Id": _identity("The key's id"),
    "X-Consumer-Metadata": _identity("The consumer's metadata: JSON, percent-encoded UTF-8"),
    "X-Consumer-Token": _identity(
        "The same as a JWT, signed by a key of `/.well-known/jwks.json`, where the deployment makes such tokens"
    ),
}


def _without_identity(refusal: dict[str, Any]) -> dict[str, Any]:
    """With the headers of identity, empty: a gateway that copies them so takes out what a client made up."""
    return {**refusal, "headers": {**refusal.get("headers", {}), **_IDENTITY}}


_NOT_READY_YET = _answer("They can't, yet.", "Readiness")
_NOT_READY_YET["content"]["application/json"]["example"] = {
    "ready": False,
    "synced": False,
    "revision": None,
    "lag_seconds": 1.5,
    "since": "2027-01-31T12:00:00.000Z",
    "reason": "OriginUnavailable: the origin can't be reached",
}

PATHS: dict[str, Any] = {
    "/v1/validate/{bucketName}": {
        "post": {
            "tags": ["Validation"],
            "operationId": "validateKey",
            "summary": "Validate a key",
            "description": "Whether a key is good in a bucket, and whose it is. Answered from this machine's replica: "
            "no database is asked. A key of another bucket is unknown in this one.",
            "parameters": [_BUCKET, _MIN_REVISION],
            "security": _TOKEN,
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ValidateQuestion"}}},
            },
            "responses": {
                "200": _answer(
                    "The verdict.",
                    {"anyOf": [{"$ref": f"#/components/schemas/{one}Verdict"} for one in ("Valid", "Invalid")]},
                ),
                "400": problem_response(400),
                "403": _NO_TOKEN,
                "404": _NO_BUCKET,
                "408": problem_response(408),
                "413": problem_response(413, "The body is larger than 64 KiB."),
                "415": problem_response(415),
                "503": _NOT_READY,
            },
        }
    },
    "/v1/forward-auth/{bucketName}": {
        "get": {
            "tags": ["Validation"],
            "operationId": "forwardAuth",
            "summary": "Authenticate a request for a gateway",
            "description": "For nginx `auth_request`, Traefik ForwardAuth, Caddy `forward_auth` and Envoy `ext_authz` "
            "over HTTP, with any method. The key is in the `Authorization: Bearer` header of the request that the "
            "gateway asks about; the deployment may choose another header and scheme.",
            "parameters": [_BUCKET, _MIN_REVISION],
            "security": [{"consumerKey": []}, {"consumerKey": [], "validationToken": []}],
            "responses": {
                "200": {
                    "description": "The key is good: its consumer is in the headers, whose names the deployment may "
                    "change.",
                    "headers": _IDENTITY,
                },
                "400": _without_identity(problem_response(400, "`Min-Revision` is no revision.")),
                "401": _without_identity(
                    problem_response(401, "There is no key, or it is refused.", "The key is unknown.")
                ),
                "403": _without_identity(_NO_TOKEN),
                "404": _without_identity(_NO_BUCKET),
                "503": _without_identity(_NOT_READY),
            },
        }
    },
    "/.well-known/jwks.json": {
        "get": {
            "tags": ["Validation"],
            "operationId": "getKeySet",
            "summary": "Get the public keys of X-Consumer-Token",
            "description": "By which a backend verifies who its gateway says asks. The same at every edge of a "
            "deployment.",
            "security": [],
            "responses": {
                "200": _answer("The keys.", "JsonWebKeySet"),
                "404": problem_response(
                    404, "This deployment makes no such tokens.", "There is nothing at this address."
                ),
            },
        }
    },
    "/livez": {
        "get": {
            "tags": ["Health"],
            "operationId": "getLiveness",
            "summary": "Whether the process answers",
            "description": "200 as long as it does. Whoever gets nothing starts another.",
            "security": [],
            "responses": {"200": _answer("It does.", "Liveness")},
        }
    },
    "/readyz": {
        "get": {
            "tags": ["Health"],
            "operationId": "getReadiness",
            "summary": "Whether keys can be judged",
            "description": "200 when the replica has a snapshot, in step with the record or not; 503 before.",
            "security": [],
            "responses": {
                "200": _answer("They can.", "Readiness"),
                "503": _NOT_READY_YET,
            },
        }
    },
}
