"""What each edge may know, which grants were ended when, and when a grant ends by itself."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("edges", sa.Column("scopes", sa.Text(), nullable=True))
    op.add_column("grants", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "withdrawals",
        sa.Column("bucket_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket_id", "account_id", name=op.f("pk_withdrawals")),
    )
