"""How far the clock of an edge is off."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("edges", sa.Column("clock_offset_millis", sa.BigInteger(), nullable=True))
