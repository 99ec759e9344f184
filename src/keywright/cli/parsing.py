"""Owns the values of options: each is parsed here into what the API takes, and so is the body that they make up.

What makes no sense raises BadParameter, which is a usage error (exit code 2), before anything is sent.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from keywright.domain import models

_RATE_LIMIT = re.compile(r"(?P<name>[^=]+)=(?P<limit>[0-9]{1,12})/(?P<seconds>[0-9]{1,6})(?P<edge>/edge)?", re.ASCII)
_QUOTA = re.compile(
    r"(?P<name>[^=]+)=(?P<limit>[0-9]{1,16})/(?P<period>day|week|month|none)"
    r"(?:@(?P<anchor>[0-9]{1,2}))?(?:/(?P<zone>.+))?",
    re.ASCII,
)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_expiry(text: str, now: datetime | None = None) -> str | None:
    """The time that `--expires-on` stands for, as the API writes it; None for `never`. Raises BadParameter.

    `+7d` counts from `now` (the clock, outside of tests). A time without a zone is UTC.
    """
    if text == "never":
        return None
    try:
        if text.startswith("+"):
            amount, unit = text[1:-1], _UNITS[text[-1]]
            if not (amount.isascii() and amount.isdigit()):
                raise ValueError
            moment = (now or datetime.now(UTC)) + timedelta(**{unit: int(amount)})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return models.to_iso(moment)
    except (ValueError, KeyError, OverflowError):
        wanted = "a time such as 2027-01-31T12:00:00Z, a date, a span such as +30m, +12h, +7d or +2w, or `never`"
        raise typer.BadParameter(f"not {wanted}") from None


def parse_since(text: str, now: datetime | None = None) -> str:
    """The time that `90d` (ago), a date or a time stands for, as the API writes it. Raises BadParameter."""
    try:
        if text[-1:] in _UNITS and text[:-1].isascii() and text[:-1].isdigit():
            moment = (now or datetime.now(UTC)) - timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return models.to_iso(moment)
    except (ValueError, OverflowError):
        wanted = "a span of the past such as 12h, 90d or 2w, a time such as 2027-01-31T12:00:00Z, or a date"
        raise typer.BadParameter(f"not {wanted}") from None


def is_past(expiry: str | None) -> bool:
    """Whether a time, as the API writes it, has come."""
    return expiry is not None and datetime.fromisoformat(expiry) <= datetime.now(UTC)


def parse_tags(pairs: list[str] | None) -> dict[str, str]:
    """`name=value` pairs as an object. Raises BadParameter."""
    tags = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter("a tag is given as NAME=VALUE", param_hint="--tag")
        tags[name] = value
    return tags


def parse_self_serve(pairs: list[str]) -> dict[str, Any]:
    """`name=value` pairs with true, false or whole numbers. Raises BadParameter."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        is_number = value.isascii() and value.isdecimal()
        if not (name and equals) or not (value in {"true", "false"} or is_number):
            raise typer.BadParameter("give it as NAME=VALUE, such as createConsumers=true", param_hint="--self-serve")
        settings[name] = json.loads(value) if not is_number else int(value)
    return settings


def parse_rate_limits(texts: list[str]) -> list[dict[str, Any]]:
    """`name=limit/seconds` and `name=limit/seconds/edge` as the API writes them. Raises BadParameter."""
    limits = []
    for text in texts:
        said = _RATE_LIMIT.fullmatch(text)
        if said is None:
            wanted = "give it as NAME=LIMIT/SECONDS, such as per-minute=600/60, or with /edge behind it"
            raise typer.BadParameter(wanted, param_hint="--rate-limit")
        limit = {"name": said["name"], "limit": int(said["limit"]), "windowSeconds": int(said["seconds"])}
        limits.append({**limit, "scope": "edge"} if said["edge"] else limit)
    return limits


def parse_quotas(texts: list[str]) -> list[dict[str, Any]]:
    """`name=units/period`, with `@day` behind a month and `/zone` at the end, as the API writes them.

    Raises BadParameter.
    """
    quotas = []
    for text in texts:
        said = _QUOTA.fullmatch(text)
        if said is None:
            wanted = (
                "give it as NAME=UNITS/PERIOD, such as calls=100000/month; the period is day, week, month, month@DAY "
                "or none, and a time zone may follow: calls=100000/day/Europe/Oslo"
            )
            raise typer.BadParameter(wanted, param_hint="--quota")
        quota: dict[str, Any] = {"name": said["name"], "limit": int(said["limit"]), "period": said["period"]}
        if said["anchor"] is not None:
            quota["anchor"] = int(said["anchor"])
        if said["zone"] is not None:
            quota["timeZone"] = said["zone"]
        quotas.append(quota)
    return quotas


def parse_metadata(text: str) -> dict[str, Any]:
    """A JSON object. Raises BadParameter."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter("""not a JSON object such as '{"plan": "gold"}'""", param_hint="--metadata")
    return value


def fields_given(**fields: Any) -> dict[str, Any]:
    """The fields of a request that were given, which are those that aren't None."""
    return {name: value for name, value in fields.items() if value is not None}


def powers_given(
    *,
    scopes: list[str] | None,
    no_scopes: bool = False,
    inherit_scopes: bool = False,
    allowed_ips: list[str] | None = None,
    any_ip: bool = False,
    enabled: bool | None = None,
) -> dict[str, Any]:
    """What was said of scopes, addresses and the switch. Raises BadParameter for what says two things at once."""
    said = [name for name, is_said in (("--no-scopes", no_scopes), ("--inherit-scopes", inherit_scopes)) if is_said]
    if len(said) + bool(scopes) > 1:
        raise typer.BadParameter("only one of --scope, --no-scopes and --inherit-scopes", param_hint=said[0])
    if allowed_ips and any_ip:
        raise typer.BadParameter("not together with --allowed-ip", param_hint="--any-ip")
    body: dict[str, Any] = fields_given(enabled=enabled, scopes=scopes or None, allowedIps=allowed_ips or None)
    if said:
        body["scopes"] = [] if no_scopes else None
    if any_ip:
        body["allowedIps"] = None
    return body


def limits_given(
    *,
    rate_limits: list[str] | None,
    no_rate_limits: bool = False,
    inherit_rate_limits: bool = False,
    quotas: list[str] | None = None,
    no_quotas: bool = False,
    inherit_quotas: bool = False,
    plan: str | None = None,
    no_plan: bool = False,
) -> dict[str, Any]:
    """What was said of plan, rate limits and quotas. Raises BadParameter for what says two things at once."""
    if plan is not None and no_plan:
        raise typer.BadParameter("not together with --plan", param_hint="--no-plan")
    body = fields_given(plan=plan, rateLimits=parse_rate_limits(rate_limits) if rate_limits else None)
    body |= fields_given(quotas=parse_quotas(quotas) if quotas else None)
    for member, words, none, inherits in (
        ("rateLimits", "rate-limits", no_rate_limits, inherit_rate_limits),
        ("quotas", "quotas", no_quotas, inherit_quotas),
    ):
        said = [name for name, is_said in ((f"--no-{words}", none), (f"--inherit-{words}", inherits)) if is_said]
        if len(said) + (member in body) > 1:
            told = f"not together with another that says {words.replace('-', ' ')}"
            raise typer.BadParameter(told, param_hint=said[0])
        if said:
            body[member] = [] if none else None
    if no_plan:
        body["plan"] = None
    return body


def update_body(
    description: str | None, tags: list[str] | None, *, no_tags: bool, metadata: str | None = None, **more: Any
) -> dict[str, Any]:
    """The body of an update. An empty description removes the old one. Raises BadParameter if nothing changes."""
    if tags and no_tags:
        raise typer.BadParameter("not together with --tag", param_hint="--no-tags")
    body = fields_given(
        description=description,
        tags=parse_tags(tags) if tags or no_tags else None,
        metadata=None if metadata is None else parse_metadata(metadata),
        **more,
    )
    require_change(body)
    if description == "":
        body["description"] = None
    return body


def require_change(body: dict[str, Any]) -> None:
    """Raise BadParameter for an update without a change: an option was forgotten."""
    if not body:
        raise typer.BadParameter("say what to change, such as --description 'New text'", param_hint="update")
