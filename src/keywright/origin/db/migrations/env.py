"""What Alembic runs: the migrations, on the connection and in the transaction that it is handed."""

from alembic import context

from keywright.origin.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
