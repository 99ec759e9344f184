"""Owns the shapes of what the edge's endpoints take and answer, as the OpenAPI document has them."""

from __future__ import annotations

from typing import Any

from keywright.domain.limits import MAX_COST
from keywright.domain.problems import QuotaExceeded
from keywright.domain.scopes import MAX_LENGTH, MAX_SCOPES, SCOPE
from keywright.domain.verdict import Verdict

_LIMITED = [str(Verdict.RATE_LIMITED), str(Verdict.QUOTA_EXCEEDED)]
_REFUSALS = [
    str(verdict)
    for verdict in (
        Verdict.MALFORMED, Verdict.UNKNOWN, Verdict.DISABLED, Verdict.EXPIRED, Verdict.IP_NOT_ALLOWED,
        Verdict.INSUFFICIENT_SCOPE,
    )
]  # fmt: skip
TEXT = {"type": "string"}
MOMENT = {"type": "string", "format": "date-time", "examples": ["2027-01-31T12:00:00.000Z"]}


def _object(description: str, *, optional: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "description": description, "properties": properties, "required": required}


_USER = _object(
    "Whom the request comes from.",
    sub={**TEXT, "description": "The consumer's name.", "examples": ["my-consumer"]},
    data={
        "type": "object",
        "description": "The consumer's metadata.",
        "additionalProperties": True,
        "examples": [{"plan": "gold"}],
    },
)
_CONSUMER = _object(
    "The consumer.",
    id={**TEXT, "examples": ["csmr_brw0leTAVw478VFKD4F6OqVI"]},
    name={**TEXT, "examples": ["my-consumer"]},
)
_KEY: dict[str, Any] = {
    "id": {**TEXT, "examples": ["key_m1m4ol223R0kGHGZY7tPQMQl"]},
    "expiresOn": {"anyOf": [MOMENT, {"type": "null"}]},
}
_SCOPES: dict[str, Any] = {
    "type": "array",
    "items": {**TEXT, "pattern": SCOPE, "maxLength": MAX_LENGTH},
    "maxItems": MAX_SCOPES,
    "uniqueItems": True,
    "examples": [["orders:read"]],
}
_LIMITS = {
    "type": "array",
    "description": "How the limits stand that hold for the key: its consumer's, or its plan's, and its own.",
    "items": {"$ref": "#/components/schemas/LimitState"},
}

SCHEMAS: dict[str, Any] = {
    "ValidateQuestion": _object(
        "A key of some request.",
        key={**TEXT, "description": "The key.", "examples": ["kwak_d67b7e241bb948758f415b79aa8ec822_2efb7009"]},
    ),
    "ValidVerdict": _object(
        "The key is good.",
        valid={"const": True},
        code={"const": str(Verdict.VALID)},
        user=_USER,
        consumer=_CONSUMER,
        key=_object("The key.", **_KEY),
    ),
    "InvalidVerdict": _object(
        "The key is refused.", valid={"const": False}, code={**TEXT, "enum": [*_REFUSALS, *_LIMITED]}
    ),
    "ValidateV2Question": {
        "additionalProperties": False,
        **_object(
            "A key of some request, and what else is asked of it.",
            optional=("scopes", "ip", "cost", "peek", "route", "reserve"),
            key={**TEXT, "description": "The key.", "examples": ["kwak_d67b7e241bb948758f415b79aa8ec822_2efb7009"]},
            scopes={**_SCOPES, "description": "What the key must be good for, all of it."},
            ip={
                "anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}, {"type": "null"}],
                "description": "The client's address, for keys that not every address may use.",
                "examples": ["192.0.2.7"],
            },
            cost={
                "type": ["integer", "null"],
                "minimum": 1,
                "maximum": MAX_COST,
                "description": "Units to take of each quota; without it the quota's own default. A rate limit counts "
                "one for each question.",
                "examples": [1],
            },
            peek={
                "type": "boolean",
                "description": "Whether to judge and take nothing of any limit; nor does it count as use.",
                "examples": [False],
            },
            route={
                "type": ["string", "null"],
                "pattern": "^[A-Za-z0-9._:-]{1,64}$",
                "description": "A tag by which use of keys is told apart: at most 8 in a bucket.",
                "examples": ["orders"],
            },
            reserve={
                "type": ["integer", "null"],
                "minimum": 1,
                "maximum": MAX_COST,
                "description": "In place of `cost` where that is known only afterwards: so many units of each quota "
                "are taken, and settled at `/v2/settle`.",
                "examples": [4000],
            },
        ),
    },
    "SettleQuestion": {
        "additionalProperties": False,
        **_object(
            "A reservation, and what the request came to.",
            reservation={**TEXT, "description": "The `token` of the reservation.", "examples": ["kwr1_bm90IG9uZQ"]},
            cost={
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_COST,
                "description": "Units that were used.",
                "examples": [1234],
            },
        ),
    },
    "Settlement": _object(
        "What became of a reservation.",
        code={
            **TEXT,
            "enum": ["SETTLED", "LAPSED"],
            "description": "LAPSED: all that was reserved counts as used, since its time was over, or the block of the "
            "quota that it was of is given back.",
        },
        taken={
            "type": "integer",
            "description": "Units taken of each quota; less than the cost where there was not more.",
            "examples": [1234],
        },
        reserved={"type": "integer", "description": "Units that were reserved.", "examples": [4000]},
    ),
    "Reservation": _object(
        "What was taken and can be settled, once.",
        token={**TEXT, "description": "Opaque.", "examples": ["kwr1_bm90IG9uZQ"]},
        expiresOn={
            **TEXT,
            "format": "date-time",
            "description": "When all of it counts as used.",
            "examples": ["2027-01-31T12:15:00.000Z"],
        },
    ),
    "LimitState": _object(
        "How a rate limit or a quota stands, after what this answer has taken.",
        name={**TEXT, "examples": ["burst"]},
        limit={"type": "integer", "examples": [100]},
        windowSeconds={"type": ["integer", "null"], "description": "Null for a quota.", "examples": [60]},
        remaining={"type": "integer", "description": "How much can be had at once.", "examples": [99]},
        resetSeconds={
            "type": "integer",
            "description": "When more than that can be had, rounded up; 0 where all can be had now.",
            "examples": [1],
        },
    ),
    "ValidV2Verdict": _object(
        "The key is good for what was asked.",
        optional=("reservation",),
        valid={"const": True},
        code={"const": str(Verdict.VALID)},
        user=_USER,
        consumer=_CONSUMER,
        key=_object(
            "The key.",
            **_KEY,
            metadata={
                "type": "object",
                "description": "The key's own metadata.",
                "additionalProperties": True,
                "examples": [{"env": "live"}],
            },
        ),
        scopes={**_SCOPES, "description": "What the key is good for."},
        limits=_LIMITS,
        reservation={
            "anyOf": [{"$ref": "#/components/schemas/Reservation"}, {"type": "null"}],
            "description": "Where `reserve` was asked for; null where no quota holds for the key.",
        },
    ),
    "InvalidV2Verdict": _object("The key is refused.", valid={"const": False}, code={**TEXT, "enum": _REFUSALS}),
    "LimitedVerdict": _object(
        "The key was good too often.",
        valid={"const": False},
        code={**TEXT, "enum": _LIMITED},
        limits=_LIMITS,
        violated={
            "type": "array",
            "description": "The names of the limits into which the question did not fit.",
            "items": TEXT,
            "examples": [["burst"]],
        },
        retryAfterSeconds={
            "type": ["integer", "null"],
            "description": "When it would, rounded up; null for never.",
            "examples": [17],
        },
    ),
    "QuotaExceededProblem": _object(
        "The key was good too often (draft-ietf-httpapi-ratelimit-headers-11).",
        optional=("detail", "instance", "requestId"),
        type={"const": QuotaExceeded.type},
        title={"const": QuotaExceeded.title},
        status={"const": QuotaExceeded.status},
        detail={**TEXT, "examples": ["The key was used too often."]},
        instance={**TEXT, "examples": ["/v1/forward-auth/my-project-production"]},
        requestId={**TEXT, "examples": ["c0b6a2e0d6f44b6f9c0f5a1d2f3b4c5d"]},
        **{
            "violated-policies": {
                "type": "array",
                "description": "The names of the limits into which the request did not fit.",
                "items": TEXT,
                "examples": [["burst"]],
            }
        },
    ),
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
        since={**MOMENT, "description": "Since when it is as it is."},
        reason={**TEXT, "description": "Why it is not in step, where it is not and that is known."},
        time_zones={
            **TEXT,
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
                x={**TEXT, "examples": ["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"]},
                y={**TEXT, "examples": ["x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"]},
                kid={
                    **TEXT,
                    "description": "As in the head of a token that it signed.",
                    "examples": ["oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"],
                },
                use={"const": "sig"},
                alg={"const": "ES256"},
            ),
        },
    ),
}
