"""Plans of a bucket, and what limits how often a key is good: rate limits and quotas.

A process of before can't be beside: 0011 has never been released, and what is older asks for columns that it took away.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("bucket_number", row_number, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("scopes", sa.Text(), nullable=True),
        sa.Column("rate_limits", sa.Text(), nullable=True),
        sa.Column("quotas", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["bucket_number"], ["buckets.number"], name=op.f("fk_plans_bucket_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_plans")),
        sa.UniqueConstraint("id", name=op.f("uq_plans_id")),
        sa.UniqueConstraint("bucket_number", "name", name=op.f("uq_plans_bucket_number_name")),
        sqlite_autoincrement=True,
    )
    # Alembic adds no constraint to a table of SQLite without copying it; both engines take one with its column.
    kind = "INTEGER" if op.get_bind().dialect.name == "sqlite" else "BIGINT"
    reference = "CONSTRAINT fk_consumers_plan_number REFERENCES plans (number)"
    op.execute(f"ALTER TABLE consumers ADD COLUMN plan_number {kind} {reference}")
    op.add_column("consumers", sa.Column("rate_limits", sa.Text(), nullable=True))
    op.add_column("consumers", sa.Column("quotas", sa.Text(), nullable=True))
    op.add_column("keys", sa.Column("rate_limits", sa.Text(), nullable=True))
    op.create_index(op.f("ix_consumers_plan_number"), "consumers", ["plan_number"], unique=False)
