"""Rules of usage: who may see what of it, which ranges can be asked for, and up to when it is known.

Counts are kept by hour (UTC). A range is widened to whole hours, and to whole days where it begins before hours are
kept; what is answered says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from keywright.domain.models import Bucket, IdKind, from_millis, to_millis
from keywright.domain.paging import Page
from keywright.domain.permissions import Access
from keywright.domain.problems import BadRequest, Conflict, NotFound
from keywright.origin.accounts.access import get_visible_account
from keywright.origin.buckets import deleted_store
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.buckets.access import access_to, get_bucket
from keywright.origin.buckets.store import BucketSearch
from keywright.origin.consumers.access import ConsumerPath, get_consumer
from keywright.origin.keys import store as key_rows
from keywright.origin.pipeline.unit_of_work import UnitOfWork
from keywright.origin.usage import series_store as rows
from keywright.origin.usage import store
from keywright.origin.usage.addresses import rules as addresses
from keywright.origin.usage.counts import ALL, DAY_MILLIS, EDGE, HOURS_OF_DAY, PLAN, ROUTE, SCOPE
from keywright.origin.usage.series_store import Cells, Hours
from keywright.protocol.usage import HOUR_MILLIS

DEFAULT_DAYS = 30
DEFAULT_HOURS_DAYS = 7
"""Where each hour is asked for."""
MARGIN_MILLIS = HOUR_MILLIS
"""How far ahead a range may end: clocks differ, and whoever asks for today rounds up."""
MOST_LOSSES = 100


class By(StrEnum):
    """What is told apart, besides verdicts."""

    VERDICT = "verdict"
    KEY = "key"
    CONSUMER = "consumer"
    EDGE = "edge"
    PLAN = "plan"
    SCOPE = "scope"
    ROUTE = "route"
    ADDRESS = "address"


class Interval(StrEnum):
    """What is told together: without one, the whole range."""

    HOUR = "hour"
    DAY = "day"


_KINDS = {By.VERDICT: ALL, By.EDGE: EDGE, By.PLAN: PLAN, By.SCOPE: SCOPE, By.ROUTE: ROUTE}
_OF_CONSUMER = (By.VERDICT, By.KEY, By.EDGE, By.ADDRESS)
_OF_KEY = (By.VERDICT, By.EDGE, By.ADDRESS)
_OF_BUCKET = (By.VERDICT, By.KEY, By.CONSUMER, By.EDGE, By.PLAN, By.SCOPE, By.ROUTE)
_OF_MANAGED = (By.VERDICT, By.KEY)
"""Where a provider's edges are is no user's business."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about usage. None for a moment: until now, and from 30 days before, 7 where hours are asked for."""

    start: datetime | None = None
    end: datetime | None = None
    by: By = By.VERDICT
    interval: Interval | None = None
    page: Page = field(default_factory=lambda: Page(100))


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a range, and how often each verdict was given in it."""

    start: datetime
    verdicts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Group:
    """What was counted of one key, consumer or edge, or by one verdict.

    `name` is a consumer's, an edge's or a plan's, None for what is gone; `owner` is the id of a key's consumer. `first`
    and `last` are a network's.
    """

    id: str
    name: str | None
    region: str | None
    owner: str | None
    verdicts: Mapping[str, int]
    steps: Sequence[Step]
    first: datetime | None = None
    last: datetime | None = None

    @property
    def total(self) -> int:
        return sum(self.verdicts.values())


@dataclass(frozen=True, slots=True)
class Loss:
    """Counts that an edge lost between two moments: `lost` of them, None where nobody knows."""

    edge: str
    since: datetime
    until: datetime
    lost: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What was counted in a range, most first. All that was before `known_until` is in it, but for the `losses`; None
    while an edge has not said how far it is. `total` is how many groups there are in all; of networks `distinct` is
    about how many there were, also of those that are not told.
    """

    start: datetime
    end: datetime
    by: By
    interval: Interval | None
    known_until: datetime | None
    groups: Sequence[Group]
    total: int
    losses: Sequence[Loss]
    distinct: int | None = None


async def of_bucket(work: UnitOfWork, account_name: str, bucket_name: str, asked: Asked) -> Usage:
    """Of a bucket, by its name; or by its id, also if it is gone."""
    return await of_found_bucket(work, await _get_bucket(work, account_name, bucket_name), asked)


async def of_found_bucket(work: UnitOfWork, bucket: Bucket, asked: Asked) -> Usage:
    """The same of a bucket that the actor may read."""
    _check_by(asked, _OF_BUCKET)
    hours = range_of(work, asked)
    known_until = await known_until_of(work, bucket)
    names: dict[str, tuple[str, str]] = {}
    kind = _KINDS.get(asked.by)
    if kind is not None:
        cells = await rows.sum_totals(work.tx, bucket.number, hours, kind)
        names = await rows.name_values(work.tx, kind, {name for name, _, _ in cells})
        return await _usage(work, bucket, asked, hours, known_until, cells, names)
    page = asked.page
    ids, owners, total = await rows.rank(
        work.tx, bucket.number, hours, by_consumer=asked.by is By.CONSUMER, limit=page.limit, offset=page.offset
    )
    keys = {number: id for id, numbers in owners.items() for number in numbers}
    cells = await rows.sum_keys(work.tx, keys, hours)
    known = await rows.name_consumers(work.tx, ids) if asked.by is By.CONSUMER else {}
    names = {id: (name, "") for id, name in known.items()}
    return await _usage(work, bucket, asked, hours, known_until, cells, names, of_all=total)


async def of_consumer(work: UnitOfWork, path: ConsumerPath, asked: Asked) -> Usage:
    """Of a consumer, by its name; or by its id, also if it is gone."""
    bucket, number = await _find_consumer(work, path)
    _check_by(asked, _OF_CONSUMER)
    return await of_found_consumer(work, bucket, number, asked)


async def of_found_consumer(work: UnitOfWork, bucket: Bucket, consumer_number: int, asked: Asked) -> Usage:
    """The same of a consumer that the actor may see."""
    keys = await _known_keys(work, bucket, consumer_number, None)
    return await _of_keys(work, bucket, keys, asked)


async def of_managed_consumer(work: UnitOfWork, bucket: Bucket, consumer_number: int, asked: Asked) -> Usage:
    """The same for who manages the consumer."""
    _check_by(asked, _OF_MANAGED)
    return replace(await of_found_consumer(work, bucket, consumer_number, asked), losses=())


async def of_key(work: UnitOfWork, path: ConsumerPath, key_id: str, asked: Asked) -> Usage:
    """Of a key, also if it is gone, and its consumer with it."""
    bucket, number = await _find_consumer(work, path)
    _check_by(asked, _OF_KEY)
    keys = await _known_keys(work, bucket, number, key_id)
    if not keys and not await _has_key(work, replace(path, bucket_name=bucket.name), key_id):
        raise NotFound("The consumer has no such key, and no usage of one is kept.")
    return await _of_keys(work, bucket, keys, asked)


async def known_until_of(work: UnitOfWork, bucket: Bucket) -> datetime | None:
    """The moment up to which all is told that was counted in a bucket; None while an edge has not said."""
    accounts = {*bucket.grants, *([] if bucket.account_id is None else [bucket.account_id])}
    millis = await store.find_known_until(work.tx, accounts, work.dependencies.own_edge)
    return None if millis is None else from_millis(millis)


async def known_until(work: UnitOfWork, account_name: str, bucket_name: str) -> datetime | None:
    """The same of a bucket that an address names."""
    _, bucket = await get_bucket(work, account_name, bucket_name, Access.READ)
    return await known_until_of(work, bucket)


def range_of(work: UnitOfWork, asked: Asked) -> Hours:
    """The hours that are asked for. Raises BadRequest for a range that nothing can be told of."""
    now, limits = to_millis(work.now), work.dependencies.limits
    end = now if asked.end is None else to_millis(asked.end)
    days = DEFAULT_DAYS if asked.interval is not Interval.HOUR else min(DEFAULT_HOURS_DAYS, limits.usage_hours_days)
    default = (end // DAY_MILLIS - days + 1) * DAY_MILLIS
    first = default if asked.start is None else to_millis(asked.start)
    oldest = (now // DAY_MILLIS - limits.usage_days_kept) * DAY_MILLIS
    by_hour_from = (now // DAY_MILLIS - limits.usage_hours_days) * DAY_MILLIS
    if asked.start is not None and first > now:
        raise _refused("from", "must not lie in the future")
    if end > now + MARGIN_MILLIS:
        raise _refused("to", "must not lie in the future")
    if first >= end:
        raise _refused("to" if asked.start is None else "from", "must be before the end of the range, and both kept")
    if first < oldest:
        raise _refused("from", f"must not be more than {limits.usage_days_kept} days ago: no usage is kept for longer")
    if asked.interval is Interval.HOUR and first < by_hour_from:
        message = f"must not be more than {limits.usage_hours_days} days ago where hours are asked for"
        raise _refused("from", message)
    in_hours = first >= by_hour_from
    # By day the steps are days; what is kept no more by hour is told by day as well.
    unit = HOURS_OF_DAY if asked.interval is Interval.DAY or not in_hours else 1
    first_hour = first // HOUR_MILLIS // unit * unit
    end_hour = -(-end // HOUR_MILLIS // unit) * unit
    step = {None: end_hour - first_hour, Interval.HOUR: 1, Interval.DAY: HOURS_OF_DAY}[asked.interval]
    return Hours(first_hour, end_hour, in_hours, step)


async def _get_bucket(work: UnitOfWork, account_name: str, name: str) -> Bucket:
    if not name.startswith(f"{IdKind.BUCKET}_"):
        _, bucket = await get_bucket(work, account_name, name, Access.READ)
        return bucket
    account = await get_visible_account(work, account_name)
    gone = await deleted_store.find_bucket(work.tx, name, account.id)
    if gone is not None and access_to(work, gone) >= Access.READ:
        return gone
    named = await bucket_rows.search(work.tx, account, BucketSearch(id=name), now=work.now, limit=1, offset=0)
    _, bucket = await get_bucket(work, account_name, named[0][0].name if named[0] else name, Access.READ)
    return bucket


async def _find_consumer(work: UnitOfWork, path: ConsumerPath) -> tuple[Bucket, int]:
    bucket = await _get_bucket(work, path.account_name, path.bucket_name)
    try:
        _, consumer = await get_consumer(work, replace(path, bucket_name=bucket.name), Access.READ)
        if consumer.bucket_number == bucket.number:
            return bucket, consumer.number
        raise NotFound("The bucket is deleted: its consumers are found by their ids.")
    except NotFound:
        # A tag guard can't be asked of what is gone.
        if path.tags or not path.consumer_name.startswith(f"{IdKind.CONSUMER}_"):
            raise
        number = await rows.find_consumer_number(work.tx, bucket.number, path.consumer_name)
        if number is None:
            raise
        return bucket, number


async def _has_key(work: UnitOfWork, path: ConsumerPath, key_id: str) -> bool:
    try:
        _, consumer = await get_consumer(work, path, Access.READ)
    except NotFound:
        return False
    is_possible = key_id.isascii() and key_id.isprintable()
    return is_possible and await key_rows.find(work.tx, consumer, key_id) is not None


async def _known_keys(work: UnitOfWork, bucket: Bucket, consumer_number: int, key_id: str | None) -> dict[int, str]:
    if key_id is not None and not (key_id.isascii() and key_id.isprintable()):
        return {}
    return await rows.find_keys(work.tx, bucket.number, consumer_number=consumer_number, key_id=key_id)


async def _of_keys(work: UnitOfWork, bucket: Bucket, keys: dict[int, str], asked: Asked) -> Usage:
    hours = range_of(work, asked)
    known_until = await known_until_of(work, bucket)
    if asked.by is By.ADDRESS:
        return await _by_address(work, bucket, keys, asked, hours, known_until)
    is_by_edge, one = asked.by is By.EDGE, "" if asked.by is By.VERDICT else None
    cells = await rows.sum_keys(work.tx, keys, hours, by_edge=is_by_edge, one_name=one)
    names = await rows.name_values(work.tx, EDGE, {name for name, _, _ in cells}) if is_by_edge else {}
    return await _usage(work, bucket, asked, hours, known_until, cells, names)


async def _by_address(
    work: UnitOfWork,
    bucket: Bucket,
    keys: dict[int, str],
    asked: Asked,
    hours: Hours,
    known_until: datetime | None,
) -> Usage:
    if not bucket.record_addresses:
        raise Conflict("The bucket records no addresses: set recordAddresses first.")
    if asked.interval is Interval.HOUR:
        raise _refused("interval", "must be day, or left out, where addresses are asked for")
    hours = addresses.whole_days(hours)
    found = await addresses.networks_of(work, keys, hours)
    usage = await _usage(work, bucket, asked, hours, known_until, found.cells, {})
    groups = [
        replace(one, first=from_millis(found.seen[one.id][0]), last=from_millis(found.seen[one.id][1]))
        for one in usage.groups
    ]
    return replace(usage, groups=groups, distinct=found.distinct)


async def _usage(
    work: UnitOfWork,
    bucket: Bucket,
    asked: Asked,
    hours: Hours,
    known_until: datetime | None,
    cells: Cells,
    names: Mapping[str, tuple[str, str]],
    *,
    of_all: int | None = None,
) -> Usage:
    """`cells` are of one page already where `of_all` says how many groups there are."""
    if asked.by is By.VERDICT:
        cells = {(verdict, at, verdict): total for (_, at, verdict), total in cells.items()}
    groups = _groups(cells, names, has_steps=asked.interval is not None)
    total = len(groups) if of_all is None else of_all
    if of_all is None:
        groups = groups[asked.page.offset : asked.page.offset + asked.page.limit]
    if asked.by is By.KEY:
        owners = await rows.name_owners(work.tx, [one.id for one in groups])
        groups = [Group(g.id, g.name, g.region, owners.get(g.id), g.verdicts, g.steps) for g in groups]
    accounts = {*bucket.grants, *([] if bucket.account_id is None else [bucket.account_id])}
    start, end = hours.first * HOUR_MILLIS, hours.end * HOUR_MILLIS
    lost = await rows.list_losses(work.tx, accounts, start, end, MOST_LOSSES)
    losses = [Loss(r.name, from_millis(r.since), from_millis(r.until), r.lost, r.reason) for r in lost]
    return Usage(
        from_millis(start), from_millis(end), asked.by, asked.interval, known_until, groups, total, losses
    )  # fmt: skip


def _groups(cells: Cells, names: Mapping[str, tuple[str, str]], *, has_steps: bool) -> list[Group]:
    by_name: dict[str, dict[int, dict[str, int]]] = {}
    for (name, at, verdict), total in cells.items():
        by_name.setdefault(name, {}).setdefault(at, {})[verdict] = total
    found = []
    for id, steps in by_name.items():
        sums: dict[str, int] = {}
        for verdicts in steps.values():
            for verdict, total in verdicts.items():
                sums[verdict] = sums.get(verdict, 0) + total
        told = [Step(from_millis(at * HOUR_MILLIS), dict(sorted(steps[at].items()))) for at in sorted(steps)]
        name, region = names.get(id, ("", ""))
        found.append(
            Group(id, name or None, region or None, None, dict(sorted(sums.items())), told if has_steps else ())
        )
    return sorted(found, key=lambda one: (-one.total, one.id))


def _check_by(asked: Asked, known: Sequence[By]) -> None:
    if asked.by not in known:
        raise _refused("by", f"must be one of {', '.join(known)} here")


def _refused(name: str, message: str) -> BadRequest:
    said = "There is no usage to tell of that range." if name != "by" else "Usage can't be told apart by that here."
    return BadRequest(said, errors=[{"field": f"query.{name}", "message": message}])


def ago(now: datetime, days: int) -> datetime:
    """The same moment so many days before."""
    return now - timedelta(days=days)
