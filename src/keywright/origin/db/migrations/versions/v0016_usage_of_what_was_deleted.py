"""Usage of what was deleted: whose deleted buckets were, and the ids of deleted consumers of which counts may come."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deleted_buckets",
        sa.Column("bucket_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket_number", name=op.f("pk_deleted_buckets")),
        sa.UniqueConstraint("id", name=op.f("uq_deleted_buckets_id")),
    )
    op.create_table(
        "deleted_consumers",
        sa.Column("consumer_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("consumer_number", name=op.f("pk_deleted_consumers")),
    )
    op.add_column("buckets", sa.Column("record_addresses", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("last_used", sa.Column("used_network", sa.Text(), nullable=True))
    op.add_column("last_used", sa.Column("used_network_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "usage_addresses",
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key_number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bucket_number", sa.BigInteger(), nullable=False),
        sa.Column("networks", sa.Text(), nullable=False),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("day", "key_number", name=op.f("pk_usage_addresses")),
    )
    op.create_index(op.f("ix_deleted_consumers_deleted_at"), "deleted_consumers", ["deleted_at"], unique=False)
