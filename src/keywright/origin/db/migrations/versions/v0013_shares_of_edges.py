"""What each edge may hold of global rate limits.

On PostgreSQL these tables are not written ahead: they change once a second, and what a crash takes with it is known to
be gone, because the one row of the first goes, too.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    prefixes = ["UNLOGGED"] if op.get_bind().dialect.name == "postgresql" else []
    ledger = op.create_table(
        "share_ledger",
        sa.Column("single", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("is_quiet", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("single"),
        prefixes=prefixes,
    )
    op.create_table(
        "edge_shares",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "instance"),
        prefixes=prefixes,
    )
    # Nobody holds anything yet.
    op.bulk_insert(ledger, [{"single": 1, "epoch": "first", "is_quiet": False}])
