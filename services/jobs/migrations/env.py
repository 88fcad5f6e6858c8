"""Alembic's environment: it runs the migrations on the connection of :func:`services.jobs.database.migrate`.

To write a new revision, call ``alembic.command.revision(config, autogenerate=True)`` with the same attribute.
"""

from alembic import context

from services.jobs.tables import Base

connection = context.config.attributes["connection"]
# SQLite cannot alter columns in place: batch mode copies the table instead.
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
