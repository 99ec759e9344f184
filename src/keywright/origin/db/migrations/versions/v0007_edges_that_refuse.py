"""When an edge of which nothing is heard answers no more: what it promised in its last report."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("edges", sa.Column("refuses_after_millis", sa.BigInteger(), nullable=True))
    op.add_column("edges", sa.Column("is_leased", sa.Boolean(), nullable=False, server_default=sa.false()))
