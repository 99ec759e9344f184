"""How often a code was tried that stands beside a sign-in link."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sign_in_links", sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
