"""What edges report, who waits for them, and how stale a replica may be for each bucket."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("buckets", sa.Column("max_staleness_seconds", sa.BigInteger(), nullable=True))
    op.add_column("buckets", sa.Column("when_stale", sa.Text(), nullable=False, server_default="serve"))
    op.add_column("deployment", sa.Column("awaited_revision", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "edges",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=True),
        sa.Column("lag_millis", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "instance", name=op.f("pk_edges")),
    )
    op.create_index(op.f("ix_edges_seen_at"), "edges", ["seen_at"], unique=False)
