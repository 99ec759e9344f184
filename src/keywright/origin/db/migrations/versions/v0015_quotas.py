"""The ledger of quotas: what is spent in each period, what edges hold in leases, and what was added."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "quota_periods",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("consumer_number", row_number, nullable=False),
        sa.Column("quota", sa.Text(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("begins_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=True),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
            for name in ("spent", "lent", "added", "overspent")
        ),
        sa.ForeignKeyConstraint(
            ["consumer_number"],
            ["consumers.number"],
            name=op.f("fk_quota_periods_consumer_number"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_quota_periods")),
        sa.UniqueConstraint(
            "consumer_number",
            "quota",
            "schedule",
            "begins_at",
            name=op.f("uq_quota_periods_consumer_number_quota_schedule_begins_at"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "quota_leases",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("period_number", row_number, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("granted", "spent", "returned", "overspent", "ends_at")
        ),
        sa.ForeignKeyConstraint(
            ["period_number"], ["quota_periods.number"], name=op.f("fk_quota_leases_period_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_quota_leases")),
        sa.UniqueConstraint(
            "period_number",
            "account_id",
            "instance",
            "start",
            name=op.f("uq_quota_leases_period_number_account_id_instance_start"),
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_quota_leases_account_id_instance"), "quota_leases", ["account_id", "instance"], unique=False
    )
    op.create_table(
        "quota_top_ups",
        sa.Column("consumer_number", row_number, nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("period_number", row_number, nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["consumer_number"],
            ["consumers.number"],
            name=op.f("fk_quota_top_ups_consumer_number"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["period_number"], ["quota_periods.number"], name=op.f("fk_quota_top_ups_period_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("consumer_number", "idempotency_key", name=op.f("pk_quota_top_ups")),
    )
    op.create_index(op.f("ix_quota_top_ups_period_number"), "quota_top_ups", ["period_number"], unique=False)
    op.create_table(
        "quota_edges",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("account_id", "instance")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("start", "question_number")),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("place", "known_place")),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "instance", name=op.f("pk_quota_edges")),
    )
    op.create_index(op.f("ix_quota_edges_asked_at"), "quota_edges", ["asked_at"], unique=False)
    op.create_table(
        "quota_losses",
        sa.Column("bucket_number", row_number, nullable=False),
        sa.Column("lost_at", sa.BigInteger(), nullable=False),
        sa.Column("is_reopened", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["bucket_number"], ["buckets.number"], name=op.f("fk_quota_losses_bucket_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("bucket_number", name=op.f("pk_quota_losses")),
    )
