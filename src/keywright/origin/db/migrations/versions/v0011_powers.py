"""What a key may do beyond being good: switches, scopes, addresses, metadata and tags of its own.

Two columns get another name, so that a process of before fails with all that it asks of keys or of the head of the log,
rather than hand out as good what is switched off.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("consumers", "keys"):
        op.add_column(table, sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.true()))
        op.add_column(table, sa.Column("scopes", sa.Text(), nullable=True))
        op.add_column(table, sa.Column("allowed_ips", sa.Text(), nullable=True))
    for column in ("disabled_by", "metadata", "tags"):
        op.add_column("keys", sa.Column(column, sa.Text(), nullable=True))
    for column in ("default_scopes", "features"):
        op.add_column("buckets", sa.Column(column, sa.Text(), nullable=False, server_default="[]"))
    # Alembic renames no column of SQLite without copying the table; both engines have had this form for long.
    op.execute("ALTER TABLE deployment RENAME COLUMN revision TO head_revision")
    op.execute("ALTER TABLE keys RENAME COLUMN expires_at TO ends_at")
