"""Owns what a key may be allowed beside its consumer, and how the audit log tells of powers that were set or changed.

How powers are judged is domain/powers.py's, how they are kept and sent the stores'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from keywright.domain.limits import Quota, RateLimit
from keywright.domain.models import Bucket, Consumer, Key, Plan
from keywright.domain.scopes import Scopes
from keywright.origin.pipeline.unit_of_work import UnitOfWork

_POWERS = {
    "enabled": "enabled",
    "scopes": "scopes",
    "allowed_ips": "allowedIps",
    "default_scopes": "defaultScopes",
    "key_prefix": "keyPrefix",
    "plan": "plan",
    "rate_limits": "rateLimits",
    "quotas": "quotas",
}
"""What is told with its values, by its name here and in the API."""
_USUAL: tuple[tuple[str, Any], ...] = (("enabled", True), ("defaultScopes", []))
_NAMED = ("metadata", "tags")
"""What may hold anything: that it changed is told, and not what it holds."""


def granted_to(bucket: Bucket, consumer: Consumer) -> Scopes:
    """The consumer's own scopes, where none are said its plan's, and where that says none either the bucket's
    defaults.
    """
    return Scopes(granted_by(bucket, consumer.plan, consumer.scopes))


def granted_by(bucket: Bucket, plan: Plan | None, scopes: Sequence[str] | None) -> Sequence[str]:
    """The same of a consumer to come, with this plan and these scopes of its own."""
    inherited = None if plan is None else plan.scopes
    return next(each for each in (scopes, inherited, bucket.default_scopes) if each is not None)


def rate_limits_of(consumer: Consumer) -> Sequence[RateLimit]:
    """How often its keys may be used, all together: what is said of it, or else by its plan."""
    inherited = None if consumer.plan is None else consumer.plan.rate_limits
    return (inherited if consumer.rate_limits is None else consumer.rate_limits) or ()


def quotas_of(consumer: Consumer) -> Sequence[Quota]:
    """How much its keys may use in a period, all together: what is said of it, or else by its plan."""
    inherited = None if consumer.plan is None else consumer.plan.quotas
    return (inherited if consumer.quotas is None else consumer.quotas) or ()


def find_ungranted(bucket: Bucket, consumer: Consumer, scopes: Sequence[str] | None) -> str | None:
    """Which rule scopes of a key of this consumer break; None where all of them are granted to it."""
    granted = granted_to(bucket, consumer)
    beyond = [scope for scope in scopes or () if not granted.covers(scope)]
    if not beyond:
        return None
    held = ", ".join(sorted(granted.names))
    return f"must be granted to the consumer, and {', '.join(beyond)} is not: it has {held or 'no scopes'}"


class Told(Protocol):
    """What an API may be told of a key, there already or to come."""

    @property
    def metadata(self) -> Mapping[str, Any]: ...
    @property
    def scopes(self) -> Sequence[str] | None: ...


def check_identity(
    work: UnitOfWork,
    bucket: Bucket,
    consumer: Consumer,
    key: Told,
    problems: list[dict[str, str]],
    *,
    place: str = "body",
) -> None:
    """Adds to `problems` what no gateway could pass on of this key and its consumer."""
    scopes = granted_to(bucket, consumer).names if key.scopes is None else key.scopes
    field = f"{place}.{'metadata' if key.metadata else 'scopes'}"
    work.dependencies.limits.check_identity(consumer.metadata, key.metadata, scopes, problems, field=field)


def tell_of_new(work: UnitOfWork, made: Key | Consumer | Bucket | Plan) -> None:
    """Has the audit entry say what is said of what was made."""
    said = {
        named: _written(value) for name, named in _POWERS.items() if (value := getattr(made, name, None)) is not None
    }
    # As nearly everything is that is new.
    said = {named: value for named, value in said.items() if (named, value) not in _USUAL}
    if said:
        work.audit_draft.tells(made.id, **said)


def tell_of_change(
    work: UnitOfWork, before: Key | Consumer | Bucket | Plan, after: Key | Consumer | Bucket | Plan
) -> None:
    """Has the audit entry say which powers changed, from what to what."""
    told: dict[str, Any] = {}
    for name, named in _POWERS.items():
        old, new = _written(getattr(before, name, None)), _written(getattr(after, name, None))
        if old != new:
            told[named] = {"from": old, "to": new}
    told |= {name: "changed" for name in _NAMED if _differ(getattr(before, name, {}), getattr(after, name, {}))}
    if told:
        work.audit_draft.tells(after.id, **told)


def _differ(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return dict(before) != dict(after)


def _written(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_written(one) for one in value]
    if isinstance(value, RateLimit | Quota):
        return value.to_json()
    return value.name if isinstance(value, Plan) else value
