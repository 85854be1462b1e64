"""Run by Alembic, always inside a connection and transaction that ``migrate`` made."""

from alembic import context

from spinney.stores.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
