"""Owns powers: what is said of a key or a consumer beyond whose it is, and how one question is judged by them.

Powers are kept and sent as a JSON object that has only what is said: `{"enabled":false}`, `{"scopes":["orders:read"]}`,
`{"allowedIps":["192.0.2.0/24"]}`, `{"metadata":{...}}` (of keys), `{"plan":7}` (of consumers: a plan's number),
`{"rateLimits":[...]}`, `{"quotas":[...]}` (as domain/limits.py writes them; quotas not of keys). A plan's own have the
same form. Whoever reads one of another name can't judge that key, and says so (UnknownPower): what was meant to keep
somebody out must not be passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

from keywright.domain.limits import Quota, RateLimit
from keywright.domain.networks import Address, Networks, parse_network
from keywright.domain.scopes import Scopes

POWERS_KEPT = 5_000
"""How many different ones one process keeps in memory compiled: some 10 KB each where all lists are full."""
FEATURES = frozenset({"enabled", "scopes", "allowedIps", "metadata", "plan", "rateLimits", "quotas"})
"""The names of all powers that this version can judge."""


class UnknownPower(Exception):
    """A power that this version can't judge: nobody here can say whether the key is good."""


@dataclass(frozen=True, slots=True, eq=False)
class Powers:
    """What is said of one key, consumer or plan, ready to be judged; of those in use there is one object for one text.

    `scopes`, `rate_limits` and `quotas` None: none are said; empty: none at all. `metadata` is a JSON object, encoded;
    None for consumers, whose metadata is a part of their own record. `plan` is a plan's number.
    """

    is_enabled: bool = True
    scopes: Scopes | None = None
    networks: Networks | None = None
    metadata: bytes | None = None
    plan: int | None = None
    rate_limits: tuple[RateLimit, ...] | None = None
    quotas: tuple[Quota, ...] | None = None
    has_limits: bool = field(init=False)
    """Whether a good answer takes something."""

    def __post_init__(self) -> None:
        # Here, once: it is looked at in each validation.
        object.__setattr__(self, "has_limits", bool(self.rate_limits or self.quotas))


FindAddress = Callable[[], Address | None]


class Demand(NamedTuple):
    """What is asked beyond whether a key is good: for which scopes, all of them, from which address, at what cost."""

    scopes: tuple[str, ...] = ()
    address: Address | FindAddress | None = None
    """Or what finds it: asked once, and only about a key that not every address may use. None: not known."""
    cost: int | None = None
    """Units of each quota; None for the quota's own default. Of a rate limit each question takes one."""
    is_peek: bool = False
    """Whether nothing is to be taken, whatever the answer is; nor does it count as use."""
    route: str | None = None
    """A tag of the caller's own, by which use is told apart; judges nothing."""
    is_reserve: bool = False
    """Whether the cost is not known yet: it is taken, and what of it was not used is given back when that is."""

    def find_address(self) -> Address | None:
        return self.address() if callable(self.address) else self.address


NO_POWERS = Powers()
NO_DEMAND = Demand()
ROUTE_FORM = "must be 1 to 64 of A-Z, a-z, 0-9, ., _, : and -"
_ROUTE = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def is_route(text: str) -> bool:
    """Whether a caller may name its route like that."""
    return _ROUTE.fullmatch(text) is not None


def encode_powers(
    *,
    enabled: bool = True,
    scopes: Collection[str] | None = None,
    allowed_ips: Collection[str] | None = None,
    metadata: str | None = None,
    plan: int | None = None,
    rate_limits: Collection[RateLimit] | None = None,
    quotas: Collection[Quota] | None = None,
) -> str | None:
    """The powers as they are sent, in one form for the same powers; None where nothing is said.

    `allowed_ips` are as `parse_network` gave them, `metadata` is a JSON object, encoded; `plan` is a plan's number.
    """
    said: dict[str, Any] = {}
    if not enabled:
        said["enabled"] = False
    if scopes is not None:
        said["scopes"] = sorted(set(scopes))
    if allowed_ips is not None:
        said["allowedIps"] = list(allowed_ips)
    if metadata is not None:
        said["metadata"] = json.loads(metadata)
    if plan is not None:
        said["plan"] = plan
    if rate_limits is not None:
        said["rateLimits"] = [each.to_json() for each in rate_limits]
    if quotas is not None:
        said["quotas"] = [each.to_json() for each in quotas]
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False) if said else None


# Records are read anew after each change to a replica, and most powers are then what they were: those in use are
# compiled once. What raises is not kept.
@lru_cache(maxsize=POWERS_KEPT)
def decode_powers(text: str | bytes) -> Powers:
    """What `encode_powers` wrote. Raises UnknownPower, and ValueError for what is no powers at all."""
    said = json.loads(text)
    if not isinstance(said, dict):
        raise ValueError("not powers")  # noqa: TRY004
    if not said.keys() <= FEATURES:
        raise UnknownPower(f"powers that this version can't judge: {', '.join(sorted(said.keys() - FEATURES))}")
    metadata = said.get("metadata")
    plan = said.get("plan")
    if plan is not None and type(plan) is not int:
        raise ValueError("not powers: plan")
    return Powers(
        is_enabled=_is_enabled(said),
        scopes=Scopes(_texts(said, "scopes")) if "scopes" in said else None,
        networks=Networks([parse_network(text) for text in _texts(said, "allowedIps")])
        if "allowedIps" in said
        else None,
        metadata=None if metadata is None else json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode(),
        plan=plan,
        rate_limits=tuple(map(RateLimit.from_json, _list(said, "rateLimits"))) if "rateLimits" in said else None,
        quotas=tuple(map(Quota.from_json, _list(said, "quotas"))) if "quotas" in said else None,
    )


def features_of(text: str | None) -> frozenset[str]:
    """The names of the powers that `encode_powers` wrote."""
    return frozenset() if text is None else frozenset(json.loads(text))


def is_enabled(text: str | None) -> bool:
    """Whether powers, as `encode_powers` wrote them, leave it switched on: also among those that aren't known here."""
    return text is None or json.loads(text).get("enabled") is not False


def is_granted(key: Powers, consumer: Powers, scopes: tuple[str, ...]) -> bool:
    """Whether all of `scopes` are granted: to the consumer, and by the key's own where it has any.

    So what a consumer loses its keys lose, by one change. A consumer of which no scopes are said has none by itself:
    what it inherits is put in its place when its record is read (`inheriting`).
    """
    own, above = key.scopes, consumer.scopes
    return above is not None and above.cover_all(scopes) and (own is None or own.cover_all(scopes))


def list_granted(key: Powers, consumer: Powers) -> list[str]:
    """The scopes that a question may demand of this key, in order: of its own those that are granted to its consumer,
    and of the consumer's those that its own cover.
    """
    above = consumer.scopes
    if above is None:
        return []
    own = above if key.scopes is None else key.scopes
    both = {name for name in own.names if above.covers(name)} | {name for name in above.names if own.covers(name)}
    return sorted(both)


@lru_cache(maxsize=POWERS_KEPT)
def inheriting(own: Powers | None, plan: Powers | None, default_scopes: Scopes | None) -> Powers | None:
    """A consumer's powers with what it inherits: of what is not said of it its plan's, and of scopes that the plan does
    not name either the bucket's. Each replaces the next; they are never added up.
    """
    powers = own or NO_POWERS
    plan = plan or NO_POWERS
    scopes = next((each for each in (powers.scopes, plan.scopes, default_scopes) if each is not None), None)
    rate_limits = plan.rate_limits if powers.rate_limits is None else powers.rate_limits
    quotas = plan.quotas if powers.quotas is None else powers.quotas
    if (scopes, rate_limits, quotas) == (powers.scopes, powers.rate_limits, powers.quotas):
        return own
    return replace(powers, scopes=scopes, rate_limits=rate_limits, quotas=quotas)


def _is_enabled(said: Mapping[str, Any]) -> bool:
    enabled = said.get("enabled", True)
    if not isinstance(enabled, bool):
        raise ValueError("not powers: enabled")  # noqa: TRY004
    return enabled


def _texts(said: Mapping[str, Any], name: str) -> list[str]:
    value = _list(said, name)
    if not all(isinstance(each, str) for each in value):
        raise ValueError(f"not powers: {name}")
    return value


def _list(said: Mapping[str, Any], name: str) -> list[Any]:
    value = said[name]
    if not isinstance(value, list):
        raise ValueError(f"not powers: {name}")  # noqa: TRY004
    return value
