"""Stamps: changes of before now, and the head, get one that this migration draws.

Two copies of one record that are migrated apart get two stamps. An edge of one is then filled anew by the other, even
where both had the same past: that costs time, and the other way round could cost a revocation.
"""

import secrets
import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    stamp, stamped_at = secrets.token_hex(8), str(time.time_ns() // 1_000_000)
    one_row = sa.CheckConstraint("single = 1", name=op.f("ck_deployment_one_row"))
    for table, constraints in (("changes", ()), ("deployment", (one_row,))):
        # A default, for the rows that are there, and not for any that comes.
        with op.batch_alter_table(table, table_args=constraints) as batch:
            batch.add_column(sa.Column("stamp", sa.Text(), nullable=False, server_default=stamp))
            batch.add_column(sa.Column("stamped_at", sa.BigInteger(), nullable=False, server_default=stamped_at))
        with op.batch_alter_table(table, table_args=constraints) as batch:
            batch.alter_column("stamp", server_default=None)
            batch.alter_column("stamped_at", server_default=None)
