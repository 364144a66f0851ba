"""Alembic's entry: run the steps on the connection that `db.engine` hands over."""

from alembic import context

from db.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,  # also on SQLite, where `db.engine` begins transactions itself
)
with context.begin_transaction():
    context.run_migrations()
