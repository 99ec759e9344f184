"""The prefixes that a bucket's keys had before its own was changed."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("buckets", sa.Column("former_key_prefixes", sa.Text(), nullable=False, server_default="[]"))
