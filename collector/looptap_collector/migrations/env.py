"""What Alembic runs for every command: migrations share the connection and the transaction of the caller."""

from alembic import context

from looptap_collector.backends.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
