"""Owns the shape of the record: tables, constraints and column types, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from keywright.domain.limits import Quota, RateLimit
from keywright.domain.models import from_millis, to_millis

SCHEMA_VERSION = "0017"
"""The newest migration. Compared with the database at every start, so that Alembic is loaded only when they differ."""


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware datetime, stored as milliseconds since the epoch: the precision of the API, on every engine."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_millis(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_millis(value)


class JsonText(sa.types.TypeDecorator[Mapping[str, Any]]):
    """A JSON object kept as text, so that it comes back as it was sent: key order and all."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> str | None:
        return None if value is None else to_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Mapping[str, Any] | None:
        return None if value is None else json.loads(value)


class SparseJsonText(JsonText):
    """A JSON object that most rows don't have: NULL where it is empty."""

    cache_ok = True

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> str | None:
        return to_json(value) if value else None

    def process_result_value(self, value: str | None, dialect: Dialect) -> Mapping[str, Any]:
        return json.loads(value) if value else {}


class JsonTexts(sa.types.TypeDecorator[Sequence[str]]):
    """Texts in their order, kept as a JSON array."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> str | None:
        return None if value is None else to_json(list(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Sequence[str] | None:
        return None if value is None else tuple(json.loads(value))


class RateLimitsJson(sa.types.TypeDecorator[Sequence[RateLimit]]):
    """Rate limits in their order, kept as a JSON array of what domain/limits.py writes."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[RateLimit] | None, dialect: Dialect) -> str | None:
        return None if value is None else to_json([one.to_json() for one in value])

    def process_result_value(self, value: str | None, dialect: Dialect) -> Sequence[RateLimit] | None:
        return None if value is None else parse_rate_limits(value)


class QuotasJson(sa.types.TypeDecorator[Sequence[Quota]]):
    """The same for quotas."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[Quota] | None, dialect: Dialect) -> str | None:
        return None if value is None else to_json([one.to_json() for one in value])

    def process_result_value(self, value: str | None, dialect: Dialect) -> Sequence[Quota] | None:
        return None if value is None else parse_quotas(value)


def parse_rate_limits(text: str) -> tuple[RateLimit, ...]:
    """Rate limits of a column as it is stored."""
    return tuple(map(RateLimit.from_json, json.loads(text)))


def parse_quotas(text: str) -> tuple[Quota, ...]:
    """The same for quotas."""
    return tuple(map(Quota.from_json, json.loads(text)))


def to_json(value: Mapping[str, Any] | list[Any]) -> str:
    """JSON without spaces, non-ASCII characters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMING)

RowNumber = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _number() -> sa.Column[int]:
    return sa.Column("number", RowNumber, primary_key=True, autoincrement=True)


def _reference(name: str, target: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[int]:
    key = sa.ForeignKey(f"{target}.number", ondelete="CASCADE")
    return sa.Column(name, RowNumber, key, primary_key=primary_key, nullable=nullable)


def _times() -> tuple[sa.Column[datetime], sa.Column[datetime]]:
    return sa.Column("created_at", UtcTime, nullable=False), sa.Column("updated_at", UtcTime, nullable=False)


def _table(name: str, *items: sa.schema.SchemaItem) -> sa.Table:
    # AUTOINCREMENT: SQLite would else give a deleted row's number to the next one, and a replica would mix them up.
    autoincrement = any(isinstance(item, sa.Column) and item.name == "number" for item in items)
    return sa.Table(name, metadata, *items, sqlite_autoincrement=autoincrement)


def _stamp() -> tuple[sa.Column[str], sa.Column[int]]:
    return sa.Column("stamp", sa.Text, nullable=False), sa.Column("stamped_at", sa.BigInteger, nullable=False)


deployment = _table(
    "deployment",
    sa.Column("single", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("pepper_check", sa.Text, nullable=False),
    # Under another name than before 0011: a process that can't judge by powers must not go on with the record.
    sa.Column("head_revision", sa.BigInteger, key="revision", nullable=False),
    *_stamp(),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("awaited_revision", sa.BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint("single = 1", name="one_row"),
)
"""One row: who this deployment is, and the head of the log, whose row lock puts commits into one order."""

changes = _table(
    "changes",
    sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
    *_stamp(),
    sa.Column("body", sa.Text, nullable=False),
)
"""`stamp` and `stamped_at` are the transaction's (protocol/changes.py: Cursor). The newest row must be kept, always."""

accounts = _table(
    "accounts",
    _number(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    *_times(),
)

projects = _table(
    "projects",
    _number(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    _reference("account_number", "accounts"),
    sa.Column("name", sa.Text, nullable=False),
    *_times(),
    sa.UniqueConstraint("account_number", "name"),
)

buckets = _table(
    "buckets",
    _number(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    _reference("account_number", "accounts", nullable=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("description", sa.Text),
    sa.Column("tags", JsonText, nullable=False),
    sa.Column("is_retrievable", sa.Boolean, nullable=False),
    sa.Column("key_prefix", sa.Text, nullable=False),
    sa.Column("master_key_id", sa.Text),
    sa.Column("sealed_data_key", sa.LargeBinary),
    sa.Column("self_serve", JsonText, nullable=False, server_default="{}"),
    *_times(),
    sa.Column("max_staleness_seconds", sa.BigInteger),
    sa.Column("when_stale", sa.Text, nullable=False, server_default="serve"),
    sa.Column("default_scopes", JsonTexts, nullable=False, server_default="[]"),
    sa.Column("features", JsonTexts, nullable=False, server_default="[]"),
    sa.Column("record_addresses", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("former_key_prefixes", JsonTexts, nullable=False, server_default="[]"),
    sa.CheckConstraint("(sealed_data_key IS NULL) = (master_key_id IS NULL)", name="data_key_names_its_master_key"),
    sa.Index(None, "account_number"),
)

retired_bucket_names = _table(
    "retired_bucket_names",
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("account_id", sa.Text, nullable=False),
)
"""Names of deleted buckets: a gateway may still ask for one, so no other account may ever answer to it."""

environments = _table(
    "environments",
    _reference("project_number", "projects", primary_key=True),
    sa.Column("environment", sa.Text, primary_key=True),
    _reference("bucket_number", "buckets"),
    sa.Index(None, "bucket_number"),
)

grants = _table(
    "grants",
    _reference("bucket_number", "buckets", primary_key=True),
    _reference("account_number", "accounts", primary_key=True),
    sa.Column("access", sa.SmallInteger, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime),
    sa.Index(None, "account_number"),
)

withdrawals = _table(
    "withdrawals",
    sa.Column("bucket_id", sa.Text, primary_key=True),
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("owner_id", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
)
"""Which revision ended the last grant of a bucket to an account: edges of it that are behind know the bucket still.

No references: a bucket's rows outlive it.
"""

plans = _table(
    "plans",
    _number(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    _reference("bucket_number", "buckets"),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("scopes", JsonTexts),
    sa.Column("rate_limits", RateLimitsJson),
    sa.Column("quotas", QuotasJson),
    *_times(),
    sa.UniqueConstraint("bucket_number", "name"),
)
"""What is said once for all consumers that have it. One that a consumer has can't be deleted."""

consumers = _table(
    "consumers",
    _number(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    _reference("bucket_number", "buckets"),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("metadata", JsonText, nullable=False),
    *_times(),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("scopes", JsonTexts),
    sa.Column("allowed_ips", JsonTexts),
    sa.Column("plan_number", RowNumber, sa.ForeignKey("plans.number")),
    sa.Column("rate_limits", RateLimitsJson),
    sa.Column("quotas", QuotasJson),
    sa.UniqueConstraint("bucket_number", "name"),
    sa.Index(None, "bucket_number", "number"),
    sa.Index(None, "plan_number"),
)

consumer_tags = _table(
    "consumer_tags",
    _reference("consumer_number", "consumers", primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("position", sa.SmallInteger, nullable=False),
    sa.Index(None, "name", "value"),
)

keys = _table(
    "keys",
    _number(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    _reference("bucket_number", "buckets"),
    _reference("consumer_number", "consumers"),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("description", sa.Text),
    # As the head of the log: no process of before takes a key that is switched off for a good one.
    sa.Column("ends_at", UtcTime, key="expires_at"),
    sa.Column("sealed", sa.LargeBinary),
    *_times(),
    sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("disabled_by", sa.Text),
    sa.Column("scopes", JsonTexts),
    sa.Column("allowed_ips", JsonTexts),
    sa.Column("metadata", SparseJsonText),
    sa.Column("tags", SparseJsonText),
    sa.Column("rate_limits", RateLimitsJson),
    sa.CheckConstraint("length(digest) = 32", name="digest_length"),
    sa.UniqueConstraint("bucket_number", "digest"),
    sa.Index(None, "consumer_number", "number"),
    sa.Index(None, "bucket_number", "hint"),
)

managers = _table(
    "managers",
    _number(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    _reference("consumer_number", "consumers"),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("sub", sa.Text),
    sa.Column("issuer", sa.Text),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.UniqueConstraint("consumer_number", "email"),
    sa.Index(None, "email"),
    sa.Index(None, "sub"),
)
"""`sub` is who `issuer` says it is. One without an issuer is bound by nobody yet: its e-mail address invites."""

portals = _table(
    "portals",
    _reference("bucket_number", "buckets", primary_key=True),
    sa.Column("settings", JsonText, nullable=False),
    sa.Column("logo", sa.LargeBinary),
    sa.Column("logo_type", sa.Text),
    sa.Column("updated_at", UtcTime, nullable=False),
)
"""How the developer portal of a bucket looks."""

sign_in_links = _table(
    "sign_in_links",
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("visitor_digest", sa.LargeBinary, nullable=False),
    _reference("bucket_number", "buckets"),
    sa.Column("email", sa.Text, nullable=False),
    sa.Column("ends_at", UtcTime, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Index(None, "bucket_number"),
    sa.Index(None, "ends_at"),
)
"""Links that were sent to sign somebody in, each for one browser; a row is deleted when its link is used."""
edges = _table(
    "edges",
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("instance", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("region", sa.Text),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("since", UtcTime, nullable=False),
    sa.Column("revision", sa.BigInteger),
    sa.Column("lag_millis", sa.BigInteger),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("refuses_after_millis", sa.BigInteger),
    sa.Column("is_leased", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("scopes", sa.Text),
    sa.Column("clock_offset_millis", sa.BigInteger),
    sa.Column("feed_format", sa.SmallInteger),
    sa.Column("is_format_unknown", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index(None, "seen_at"),
)
"""What each edge said last, for the origins that did not hear it themselves. No part of the record; but a write waits
for each edge that is in it, so who takes out a row says that this edge answers no more.

`account_id` is text, and "" for edges of the deployment itself. `seen_at` is by the database's clock, in milliseconds.
`scopes` is what the edge may know, as edges/scopes.py writes it.
"""

share_ledger = _table(
    "share_ledger",
    sa.Column("single", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.Text, nullable=False),
    sa.Column("is_quiet", sa.Boolean, nullable=False),
)
"""Says that `edge_shares` is all there is. Where its one row is gone, so are others: `is_quiet` until nobody can hold
what nobody knows of. Who changes rows of `edge_shares` has this one locked.
"""

edge_shares = _table(
    "edge_shares",
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("instance", sa.Text, primary_key=True),
    sa.Column("beat", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
"""What each edge may hold of global rate limits, as limits/rows.py packs it. `beat` differs whenever it was heard of.

No part of the record, and gone when a server of PostgreSQL crashes: both tables are unlogged there.
"""

usage_epochs = _table(
    "usage_epochs",
    sa.Column("epoch", sa.Text, primary_key=True),
    sa.Column("next_number", sa.BigInteger, nullable=False),
    sa.Column("digests", sa.LargeBinary, nullable=False),
    sa.Column("heard_at", sa.BigInteger, nullable=False),
    sa.Index(None, "heard_at"),
)
"""Which batch of usage is taken next of each process that counted, and the SHA-256 of those taken last, the newest at
the end. A row is kept for longer than an hour's usage is: what it has taken is never taken again. Times here and in the
next two are milliseconds since the epoch.
"""

usage_edges = _table(
    "usage_edges",
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("instance", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("known_until", sa.BigInteger),
    sa.Column("heard_at", sa.BigInteger, nullable=False),
)
"""Up to when all that an edge counted was taken, or is among what was lost; None while that is not known. The edge is
one of `edges`, which says whether it is retired.
"""

usage_losses = _table(
    "usage_losses",
    _number(),
    sa.Column("account_id", sa.Text, nullable=False),
    sa.Column("instance", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("epoch", sa.Text, nullable=False),
    sa.Column("first_number", sa.BigInteger),
    sa.Column("last_number", sa.BigInteger),
    sa.Column("lost", sa.BigInteger),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("noted_at", sa.BigInteger, nullable=False),
    sa.Index(None, "until"),
    sa.Index(None, "epoch"),
)
"""Counts that are missing: of which edge, how many (None: nobody knows), and why, as LossReason has it."""

audit_logs = _table(
    "audit_logs",
    _number(),
    sa.Column("account_id", sa.Text, nullable=False),
    sa.Column("timestamp", UtcTime, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("actor_sub", sa.Text, nullable=False),
    sa.Column("actor_email", sa.Text),
    sa.Column("success", sa.Boolean, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("body", JsonText, nullable=False),
    sa.Index(None, "account_id", "number"),
)
"""`account_id` is text and no reference: the log outlives what it tells of. `body` holds the rest of the entry."""

sessions = _table(
    "sessions",
    _number(),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("portal", sa.Text, nullable=False),
    _reference("key_number", "keys", nullable=True),
    _reference("bucket_number", "buckets", nullable=True),
    sa.Column("sub", sa.Text),
    sa.Column("issuer", sa.Text),
    sa.Column("email", sa.Text),
    sa.Column("connection", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
    sa.Column("ends_at", UtcTime, nullable=False),
    sa.CheckConstraint("length(digest) = 32", name="digest_length"),
    sa.Index(None, "key_number"),
    sa.Index(None, "bucket_number"),
    sa.Index(None, "ends_at"),
)
"""Who is signed in to a portal. The digest is that of the cookie; the session ends with its key or its bucket."""

sent_forms = _table(
    "sent_forms",
    _reference("session_number", "sessions", primary_key=True),
    sa.Column("form", sa.Text, primary_key=True),
    sa.Column("location", sa.Text, nullable=False),
)
"""Forms that a session has sent, by the number that each was given: one that is sent twice is done once."""

usage_sources = _table(
    "usage_sources",
    _number(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("region", sa.Text, nullable=False),
    sa.UniqueConstraint("name", "region"),
)
"""Edges that counted, by the names that they had: a number is shorter in a million rows."""

usage_batches = _table(
    "usage_batches",
    _number(),
    sa.Column("part", sa.SmallInteger, nullable=False),
    sa.Column("row_count", sa.Integer, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("taken_at", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index(None, "part", "number"),
)
"""What was taken in and not folded yet, as usage/counts.py packs it. `part` is which part of all keys they are of, or
what is to be folded at once. `since` is the first moment that they tell of, in milliseconds.
"""

usage_folding = _table(
    "usage_folding",
    sa.Column("single", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("held_until", sa.BigInteger, nullable=False),
    sa.Column("rolled_day", sa.BigInteger, nullable=False),
    sa.Column("next_key", sa.BigInteger, nullable=False),
)
"""One row: which process folds, until when (milliseconds, by the database's clock); and what is rolled up.

Days up to `rolled_day` are in `usage_days`; so are, of the day after it, keys below `next_key`.
"""

last_used = _table(
    "last_used",
    _number(),
    sa.Column("key_id", sa.Text, nullable=False, unique=True),
    sa.Column("bucket_number", sa.BigInteger, nullable=False),
    sa.Column("consumer_number", sa.BigInteger, nullable=False),
    sa.Column("consumer_id", sa.Text),
    sa.Column("used_at", sa.BigInteger),
    sa.Column("used_source", sa.BigInteger),
    sa.Column("asked_at", sa.BigInteger, nullable=False),
    sa.Column("used_network", sa.Text),
    sa.Column("used_network_at", sa.BigInteger),
    sa.Index(None, "consumer_number"),
    sa.Index(None, "bucket_number"),
)
"""Keys that were asked about: when a validation was last VALID, and at which of `usage_sources`; and when there was
the last one of any verdict. Milliseconds. `used_network` is from where the last VALID one was whose network was told,
and when, in buckets that record addresses. No references: a row outlives its key, and gives `usage_hours` its number.
"""


def _counts(name: str, span: str) -> sa.Table:
    return _table(
        name,
        sa.Column(span, sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key_number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("verdict", sa.Text, primary_key=True),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("sources", sa.Text, nullable=False),
    )


usage_hours = _counts("usage_hours", "hour")
"""Validations by key and verdict in an hour (counted from the epoch, UTC); `key_number` is of `last_used`, `sources`
says how many of them at which edge.
"""

usage_days = _counts("usage_days", "day")
"""The same by day."""

usage_totals = _table(
    "usage_totals",
    sa.Column("bucket_number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("span", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("verdict", sa.Text, primary_key=True),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Index(None, "span", "at"),
)
"""Validations of a whole bucket, those of no known key as well: in hours (`span` is `h`) and days (`d`), by `kind`: ""
for all, or by edge, plan, denied scope or route.
"""

usage_addresses = _table(
    "usage_addresses",
    sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key_number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("bucket_number", sa.BigInteger, nullable=False),
    sa.Column("networks", sa.Text, nullable=False),
    sa.Column("sketch", sa.LargeBinary, nullable=False),
)
"""From where a key was used in a day (counted from the epoch, UTC), in buckets that record it: the most frequent
networks as usage/addresses/days.py writes them, and a sketch of all. `key_number` is of `last_used`.
"""

deleted_buckets = _table(
    "deleted_buckets",
    sa.Column("bucket_number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("account_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("deleted_at", UtcTime, nullable=False),
)
"""Whose a bucket was that is gone, for as long as its usage is kept: it is asked for by the bucket's id."""

deleted_consumers = _table(
    "deleted_consumers",
    sa.Column("consumer_number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("deleted_at", UtcTime, nullable=False),
    sa.Index(None, "deleted_at"),
)
"""Ids of consumers that are gone, for as long as counts of them may still come."""

quota_periods = _table(
    "quota_periods",
    _number(),
    _reference("consumer_number", "consumers"),
    sa.Column("quota", sa.Text, nullable=False),
    sa.Column("schedule", sa.Text, nullable=False),
    sa.Column("begins_at", sa.BigInteger, nullable=False),
    sa.Column("ends_at", sa.BigInteger),
    sa.Column("spent", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("lent", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("added", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("overspent", sa.BigInteger, nullable=False, server_default="0"),
    sa.UniqueConstraint("consumer_number", "quota", "schedule", "begins_at"),
)
"""What is spent of a quota, by its name, in one period: whoever opened it said when it begins and ends. Times are
milliseconds by the database's clock. No part of the record that edges follow.
"""

quota_leases = _table(
    "quota_leases",
    _number(),
    _reference("period_number", "quota_periods"),
    sa.Column("account_id", sa.Text, nullable=False),
    sa.Column("instance", sa.Text, nullable=False),
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("granted", sa.BigInteger, nullable=False),
    sa.Column("spent", sa.BigInteger, nullable=False),
    sa.Column("returned", sa.BigInteger, nullable=False),
    sa.Column("overspent", sa.BigInteger, nullable=False),
    sa.Column("ends_at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("period_number", "account_id", "instance", "start"),
    sa.Index(None, "account_id", "instance"),
)
"""What one start of an edge was lent of a period: written by who holds the period's row."""

quota_top_ups = _table(
    "quota_top_ups",
    _reference("consumer_number", "consumers", primary_key=True),
    sa.Column("idempotency_key", sa.Text, primary_key=True),
    _reference("period_number", "quota_periods"),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Index(None, "period_number"),
)
"""What was added to a period, each once; kept as long as the period is."""

quota_edges = _table(
    "quota_edges",
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("instance", sa.Text, primary_key=True),
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("question_number", sa.BigInteger, nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("known_place", sa.Text, nullable=False),
    sa.Column("asked_at", sa.BigInteger, nullable=False),
    sa.Index(None, "asked_at"),
)
"""The last question of each edge. `place` is what its answer told, `known_place` what it said to have heard before."""

quota_losses = _table(
    "quota_losses",
    _reference("bucket_number", "buckets", primary_key=True),
    sa.Column("lost_at", sa.BigInteger, nullable=False),
    sa.Column("is_reopened", sa.Boolean, nullable=False),
)
"""Buckets of which nobody knows all that was lent, since the record went back: in periods that began before then
nothing more is lent, unless somebody has reopened them.
"""
