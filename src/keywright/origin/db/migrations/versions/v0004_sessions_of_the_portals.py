"""Sessions of the portals, the forms that were sent in them, and an index by which a key is found by its hint."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_index(op.f("ix_keys_bucket_number_hint"), "keys", ["bucket_number", "hint"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("portal", sa.Text(), nullable=False),
        sa.Column("key_number", row_number, nullable=True),
        sa.Column("bucket_number", row_number, nullable=True),
        sa.Column("sub", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("connection", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_sessions_digest_length")),
        sa.ForeignKeyConstraint(
            ["key_number"], ["keys.number"], name=op.f("fk_sessions_key_number"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["bucket_number"], ["buckets.number"], name=op.f("fk_sessions_bucket_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_sessions")),
        sa.UniqueConstraint("digest", name=op.f("uq_sessions_digest")),
        sqlite_autoincrement=True,
    )
    for column in ("key_number", "bucket_number", "ends_at"):
        op.create_index(op.f(f"ix_sessions_{column}"), "sessions", [column], unique=False)
    op.create_table(
        "sent_forms",
        sa.Column("session_number", row_number, nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_number"], ["sessions.number"], name=op.f("fk_sent_forms_session_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_number", "form", name=op.f("pk_sent_forms")),
    )
