"""Alembic's door: it runs on the connection that `upgrade` opened."""

from alembic import context

from noria.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
