"""Which batches of usage were taken, up to when that of each edge is known, and what was lost."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "usage_rows",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("bucket_number", sa.BigInteger(), nullable=False),
        sa.Column("consumer_number", sa.BigInteger(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("plan_number", sa.BigInteger(), nullable=True),
        sa.Column("denied_scope", sa.Text(), nullable=True),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_usage_rows")),
        sqlite_autoincrement=True,
    )
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
