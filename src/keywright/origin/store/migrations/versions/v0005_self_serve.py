"""What end users may do in a bucket by themselves, and an index by which their consumers are found."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("buckets", sa.Column("self_serve", sa.Text(), server_default="{}", nullable=False))
    op.create_index(op.f("ix_managers_sub"), "managers", ["sub"], unique=False)
