"""Alembic's entry: runs on the connection that `aiops.store.opening` hands over, or on `-x url=...` for a developer."""

from alembic import context
from sqlalchemy import Connection, create_engine

from aiops.store.schema import metadata


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with create_engine(context.get_x_argument(as_dictionary=True)["url"]).begin() as opened:
        migrate(opened)
