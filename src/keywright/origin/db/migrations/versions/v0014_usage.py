"""What keys did: which batches of counts were taken and what was lost; hours and days; when each key was last used.

Nothing here is part of the record that edges follow, and nothing refers to it: the past of a key outlives the key.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "usage_epochs",
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("next_number", sa.BigInteger(), nullable=False),
        sa.Column("digests", sa.LargeBinary(), nullable=False),
        sa.Column("heard_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_usage_epochs")),
    )
    op.create_index(op.f("ix_usage_epochs_heard_at"), "usage_epochs", ["heard_at"])
    op.create_table(
        "usage_edges",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("known_until", sa.BigInteger(), nullable=True),
        sa.Column("heard_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "instance", name=op.f("pk_usage_edges")),
    )
    op.create_table(
        "usage_losses",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("first_number", sa.BigInteger(), nullable=True),
        sa.Column("last_number", sa.BigInteger(), nullable=True),
        sa.Column("lost", sa.BigInteger(), nullable=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("noted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_usage_losses")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_usage_losses_until"), "usage_losses", ["until"])
    op.create_index(op.f("ix_usage_losses_epoch"), "usage_losses", ["epoch"])
    op.create_table(
        "usage_sources",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_usage_sources")),
        sa.UniqueConstraint("name", "region", name=op.f("uq_usage_sources_name_region")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "usage_batches",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_usage_batches")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_usage_batches_part_number"), "usage_batches", ["part", "number"], unique=False)
    folding = op.create_table(
        "usage_folding",
        sa.Column("single", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("held_until", sa.BigInteger(), nullable=False),
        sa.Column("rolled_day", sa.BigInteger(), nullable=False),
        sa.Column("next_key", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("single", name=op.f("pk_usage_folding")),
    )
    op.create_table(
        "last_used",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("bucket_number", sa.BigInteger(), nullable=False),
        sa.Column("consumer_number", sa.BigInteger(), nullable=False),
        sa.Column("consumer_id", sa.Text(), nullable=True),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("used_source", sa.BigInteger(), nullable=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_last_used")),
        sa.UniqueConstraint("key_id", name=op.f("uq_last_used_key_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_last_used_consumer_number"), "last_used", ["consumer_number"], unique=False)
    op.create_index(op.f("ix_last_used_bucket_number"), "last_used", ["bucket_number"], unique=False)
    for name, span in (("usage_hours", "hour"), ("usage_days", "day")):
        op.create_table(
            name,
            sa.Column(span, sa.BigInteger(), autoincrement=False, nullable=False),
            sa.Column("key_number", sa.BigInteger(), autoincrement=False, nullable=False),
            sa.Column("verdict", sa.Text(), nullable=False),
            sa.Column("total", sa.BigInteger(), nullable=False),
            sa.Column("sources", sa.Text(), nullable=False),
            sa.PrimaryKeyConstraint(span, "key_number", "verdict", name=op.f(f"pk_{name}")),
        )
    op.create_table(
        "usage_totals",
        sa.Column("bucket_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("span", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "bucket_number", "span", "kind", "at", "value", "verdict", name=op.f("pk_usage_totals")
        ),
    )
    op.create_index(op.f("ix_usage_totals_span_at"), "usage_totals", ["span", "at"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        # Each hour moves each of its rows: with room beside them that needs no new entry in any index.
        op.execute("ALTER TABLE last_used SET (fillfactor = 75)")
    # Nobody folds yet, and no day before the epoch is left to roll up.
    op.bulk_insert(folding, [{"single": 1, "holder": "", "held_until": 0, "rolled_day": -1, "next_key": 0}])
