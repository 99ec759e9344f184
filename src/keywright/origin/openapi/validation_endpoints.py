"""Owns how the OpenAPI document tells of the edge's endpoints, which another application serves at the same address."""

from __future__ import annotations

from typing import Any

from keywright.domain.names import BUCKET_NAME
from keywright.domain.problems import CONTENT_TYPE, QuotaExceeded
from keywright.origin.openapi.problem_responses import problem_response
from keywright.origin.openapi.validation_schemas import TEXT

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
    "schema": {**TEXT, "pattern": BUCKET_NAME, "examples": ["my-project-production"]},
}


def _answer(description: str, schema: str | dict[str, Any]) -> dict[str, Any]:
    content = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    return {"description": description, "content": {"application/json": {"schema": content}}}


def _identity(name: str) -> dict[str, Any]:
    return {"description": f"{name}; empty unless the key is good.", "schema": TEXT}


_IDENTITY = {
    "X-Consumer-Name": _identity("The consumer's name"),
    "X-Consumer-Id": _identity("The consumer's id"),
    "X-Key-Id": _identity("The key's id"),
    "X-Consumer-Metadata": _identity("The consumer's metadata: JSON, percent-encoded UTF-8"),
    "X-Consumer-Token": _identity(
        "The same as a JWT, signed by a key of `/.well-known/jwks.json`, where the deployment makes such tokens"
    ),
}


_RATE_FIELDS = {
    "RateLimit-Policy": {
        "description": "The limits that hold for the key, where any do: `q` requests in `w` seconds.",
        "schema": {**TEXT, "examples": ['"burst";q=100;w=60']},
    },
    "RateLimit": {
        "description": "What is left of them: `r` can be had at once, more than that in `t` seconds.",
        "schema": {**TEXT, "examples": ['"burst";r=0;t=17']},
    },
}
_TOO_OFTEN: dict[str, Any] = {
    "description": "Quota Exceeded. The key was good too often: a rate limit or a quota is used up.",
    "content": {
        CONTENT_TYPE: {
            "schema": {"$ref": "#/components/schemas/QuotaExceededProblem"},
            "example": {
                "type": QuotaExceeded.type,
                "title": QuotaExceeded.title,
                "status": QuotaExceeded.status,
                "violated-policies": ["burst"],
                "detail": "The key was used too often.",
                "requestId": "c0b6a2e0d6f44b6f9c0f5a1d2f3b4c5d",
            },
        }
    },
    "headers": {"Retry-After": {"$ref": "#/components/headers/Retry-After"}, **_RATE_FIELDS},
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
    "/v2/validate/{bucketName}": {
        "post": {
            "tags": ["Validation"],
            "operationId": "validateKeyFor",
            "summary": "Validate a key for something",
            "description": "Whether a key is good for some scopes, from some address, and how its limits stand. What "
            "a good answer takes of them is taken by it; `peek` takes nothing. An edge of before has no such address, "
            "and so never says yes to what it can't judge.",
            "parameters": [_BUCKET, _MIN_REVISION],
            "security": _TOKEN,
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ValidateV2Question"}}},
            },
            "responses": {
                "200": _answer(
                    "The verdict.",
                    {
                        "anyOf": [
                            {"$ref": f"#/components/schemas/{one}Verdict"}
                            for one in ("ValidV2", "InvalidV2", "Limited")
                        ]
                    },
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
    "/v2/settle": {
        "post": {
            "tags": ["Validation"],
            "operationId": "settleReservation",
            "summary": "Settle a reservation",
            "description": "Takes what a request came to that was validated with `reserve`, and gives back the rest: "
            "at the edge that made the reservation, at any of its workers, once. Settled again, the answer is the "
            "same. What was used beyond the reservation is taken as far as there is more, which is waited for a "
            "moment.",
            "security": _TOKEN,
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/SettleQuestion"}}},
            },
            "responses": {
                "200": _answer("What was taken.", "Settlement"),
                "400": problem_response(400),
                "403": _NO_TOKEN,
                "404": problem_response(
                    404,
                    "This edge knows no such reservation: another made it, its machine was started anew, or it is long "
                    "over. What was reserved counts as used.",
                    "There is no such reservation here.",
                ),
                "408": problem_response(408),
                "413": problem_response(413, "The body is larger than 8 KiB."),
                "415": problem_response(415),
                "503": problem_response(
                    503, "Nothing can be counted now, as on a full disk.", "The reservation can't be settled now."
                ),
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
            "gateway asks about; the deployment may choose another header and scheme. What a route demands beyond a "
            "good key stands in the bucket's segment: `;scope=orders:read,orders:write`, `;cost=5` (units of each "
            "quota), `;peek=true` (judge, and take nothing of any limit) and `;route=orders` (a tag by which use is "
            "told apart).",
            "parameters": [_BUCKET, _MIN_REVISION],
            "security": [{"consumerKey": []}, {"consumerKey": [], "validationToken": []}],
            "responses": {
                "200": {
                    "description": "The key is good: its consumer is in the headers, whose names the deployment may "
                    "change.",
                    "headers": {**_IDENTITY, **_RATE_FIELDS},
                },
                "400": _without_identity(
                    problem_response(
                        400,
                        "`Min-Revision` is no revision, or a parameter is not known, there twice or not well formed.",
                    )
                ),
                "401": _without_identity(
                    problem_response(401, "There is no key, or it is refused.", "The key is unknown.")
                ),
                "403": _without_identity(
                    problem_response(
                        403,
                        "The key is not good for this scope or from this address; or the deployment demands a "
                        "management key in `Keywright-Token`.",
                        "The key may not be used from this address.",
                    )
                ),
                "404": _without_identity(_NO_BUCKET),
                "429": _without_identity(_TOO_OFTEN),
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
