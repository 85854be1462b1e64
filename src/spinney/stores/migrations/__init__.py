"""The schema's history, and bringing a database up to its end."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy import inspect as inspect_schema

from spinney.errors import Unavailable
from spinney.stores.engine import lock_schema

HEAD = "0004"
"""The newest revision, known without importing Alembic, which takes longer than the rest of ``open``. Revisions sort as text."""


def upgrade(engine: Engine) -> None:
    """Bring the schema up to date; several processes may do so at once. Raises Unavailable when it is newer than this program."""
    with engine.connect() as connection:
        if _is_current(connection):
            return
    with engine.execution_options(writes=True).begin() as connection:
        lock_schema(connection)
        if not _is_current(connection):  # another process may have been first
            migrate(connection, HEAD)


def _is_current(connection: Connection) -> bool:
    stored = _stored(connection)
    if stored > HEAD:
        raise Unavailable(f"the store was written by a newer version of Spinney (schema {stored}, this program knows {HEAD})")
    return stored == HEAD


def _stored(connection: Connection) -> str:
    if not inspect_schema(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def migrate(connection: Connection, revision: str) -> None:
    """Go up or down to a revision (``base`` for an empty database) inside the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    if revision == "base" or revision < _stored(connection):
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)
