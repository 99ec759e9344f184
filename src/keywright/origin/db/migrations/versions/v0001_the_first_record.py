"""The first shape of the record: accounts, buckets, consumers, keys, the change log and the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

row_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "retired_bucket_names",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_retired_bucket_names")),
    )
    op.create_table(
        "accounts",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_accounts")),
        sa.UniqueConstraint("id", name=op.f("uq_accounts_id")),
        sa.UniqueConstraint("name", name=op.f("uq_accounts_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit_logs",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor_sub", sa.Text(), nullable=False),
        sa.Column("actor_email", sa.Text(), nullable=True),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_logs")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_logs_account_id_number"), "audit_logs", ["account_id", "number"], unique=False)
    op.create_table(
        "changes",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_changes")),
    )
    op.create_table(
        "deployment",
        sa.Column("single", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("pepper_check", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("single = 1", name=op.f("ck_deployment_one_row")),
        sa.PrimaryKeyConstraint("single", name=op.f("pk_deployment")),
    )
    op.create_table(
        "buckets",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_number", row_number, nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("is_retrievable", sa.Boolean(), nullable=False),
        sa.Column("key_prefix", sa.Text(), nullable=False),
        sa.Column("master_key_id", sa.Text(), nullable=True),
        sa.Column("sealed_data_key", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(sealed_data_key IS NULL) = (master_key_id IS NULL)", name=op.f("ck_buckets_data_key_names_its_master_key")
        ),
        sa.ForeignKeyConstraint(
            ["account_number"], ["accounts.number"], name=op.f("fk_buckets_account_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_buckets")),
        sa.UniqueConstraint("id", name=op.f("uq_buckets_id")),
        sa.UniqueConstraint("name", name=op.f("uq_buckets_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_buckets_account_number"), "buckets", ["account_number"], unique=False)
    op.create_table(
        "projects",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_number", row_number, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_number"], ["accounts.number"], name=op.f("fk_projects_account_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_projects")),
        sa.UniqueConstraint("account_number", "name", name=op.f("uq_projects_account_number_name")),
        sa.UniqueConstraint("id", name=op.f("uq_projects_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "consumers",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("bucket_number", row_number, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["bucket_number"], ["buckets.number"], name=op.f("fk_consumers_bucket_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_consumers")),
        sa.UniqueConstraint("bucket_number", "name", name=op.f("uq_consumers_bucket_number_name")),
        sa.UniqueConstraint("id", name=op.f("uq_consumers_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_consumers_bucket_number_number"), "consumers", ["bucket_number", "number"], unique=False)
    op.create_table(
        "environments",
        sa.Column("project_number", row_number, nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("bucket_number", row_number, nullable=False),
        sa.ForeignKeyConstraint(
            ["bucket_number"], ["buckets.number"], name=op.f("fk_environments_bucket_number"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["project_number"], ["projects.number"], name=op.f("fk_environments_project_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_number", "environment", name=op.f("pk_environments")),
    )
    op.create_index(op.f("ix_environments_bucket_number"), "environments", ["bucket_number"], unique=False)
    op.create_table(
        "grants",
        sa.Column("bucket_number", row_number, nullable=False),
        sa.Column("account_number", row_number, nullable=False),
        sa.Column("access", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_number"], ["accounts.number"], name=op.f("fk_grants_account_number"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["bucket_number"], ["buckets.number"], name=op.f("fk_grants_bucket_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("bucket_number", "account_number", name=op.f("pk_grants")),
    )
    op.create_index(op.f("ix_grants_account_number"), "grants", ["account_number"], unique=False)
    op.create_table(
        "consumer_tags",
        sa.Column("consumer_number", row_number, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["consumer_number"], ["consumers.number"], name=op.f("fk_consumer_tags_consumer_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("consumer_number", "name", name=op.f("pk_consumer_tags")),
    )
    op.create_index(op.f("ix_consumer_tags_name_value"), "consumer_tags", ["name", "value"], unique=False)
    op.create_table(
        "keys",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("bucket_number", row_number, nullable=False),
        sa.Column("consumer_number", row_number, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_keys_digest_length")),
        sa.ForeignKeyConstraint(
            ["bucket_number"], ["buckets.number"], name=op.f("fk_keys_bucket_number"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["consumer_number"], ["consumers.number"], name=op.f("fk_keys_consumer_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_keys")),
        sa.UniqueConstraint("bucket_number", "digest", name=op.f("uq_keys_bucket_number_digest")),
        sa.UniqueConstraint("id", name=op.f("uq_keys_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_keys_consumer_number_number"), "keys", ["consumer_number", "number"], unique=False)
    op.create_table(
        "managers",
        sa.Column("number", row_number, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("consumer_number", row_number, nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("sub", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["consumer_number"], ["consumers.number"], name=op.f("fk_managers_consumer_number"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_managers")),
        sa.UniqueConstraint("consumer_number", "email", name=op.f("uq_managers_consumer_number_email")),
        sa.UniqueConstraint("id", name=op.f("uq_managers_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_managers_email"), "managers", ["email"], unique=False)
