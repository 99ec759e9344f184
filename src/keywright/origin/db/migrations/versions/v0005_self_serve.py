"""Self-serve: what end users may do in a bucket, how its portal looks, and the links by which they sign in."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("buckets", sa.Column("self_serve", sa.Text(), server_default="{}", nullable=False))
    op.create_index(op.f("ix_managers_sub"), "managers", ["sub"], unique=False)
    op.create_table(
        "portals",
        sa.Column("bucket_number", row_number, nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("logo", sa.LargeBinary(), nullable=True),
        sa.Column("logo_type", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["bucket_number"], ["buckets.number"], name=op.f("fk_portals_bucket_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("bucket_number", name=op.f("pk_portals")),
    )
    op.create_table(
        "sign_in_links",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("visitor_digest", sa.LargeBinary(), nullable=False),
        sa.Column("bucket_number", row_number, nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["bucket_number"], ["buckets.number"], name=op.f("fk_sign_in_links_bucket_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sign_in_links")),
    )
    for column in ("bucket_number", "ends_at"):
        op.create_index(op.f(f"ix_sign_in_links_{column}"), "sign_in_links", [column], unique=False)
