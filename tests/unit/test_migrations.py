"""The migrations make exactly the tables, both ways, and several openers do not disturb each other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, func, inspect, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from spinney.errors import Unavailable
from spinney.stores import migrations
from spinney.stores.engine import make_engine
from spinney.stores.sql import SqlStore
from spinney.stores.tables import TABLES, accounts, metadata

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    engine = make_engine(f"sqlite:///{tmp_path}/spinney.db", durable=False).execution_options(writes=True)
    yield engine
    engine.dispose()


def schema(connection: Connection) -> set[str]:
    """Every table and index as SQLite keeps its definition, but for spaces and the order of a table's constraints."""
    rows = connection.execute(text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name != 'alembic_version'"))
    lines = (sql.replace(", ", ",\n").splitlines() for sql in rows.scalars())  # an added column follows the last in its line
    return {"\n".join(sorted(filter(None, (line.strip(" \t,)") for line in of_one)))) for of_one in lines}


def test_migrations_make_the_tables(engine: Engine) -> None:
    migrations.upgrade(engine)
    with engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
        migrated = schema(connection)
    plain = create_engine("sqlite://")
    with plain.begin() as connection:
        metadata.create_all(connection)
        assert migrated == schema(connection)
    plain.dispose()


def test_migrations_go_back(engine: Engine) -> None:
    migrations.upgrade(engine)
    with engine.begin() as connection:
        migrations.migrate(connection, "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
    migrations.upgrade(engine)
    with engine.begin() as connection:
        assert set(inspect(connection).get_table_names()) == {"alembic_version", *metadata.tables}


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [migrations.HEAD]
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True), "revisions sort as text"


def test_every_noun_field_has_its_column() -> None:
    for kind, table in TABLES.items():
        fields = set(kind.__struct_fields__)
        assert set(table.c.keys()) - {"seq", "record"} <= fields
        assert "record" in table.c or fields <= set(table.c.keys())


def test_the_tables_have_a_form_on_postgresql() -> None:
    dialect = postgresql.dialect()
    for table in metadata.sorted_tables:
        assert CreateTable(table).compile(dialect=dialect).string
        for index in table.indexes:
            assert CreateIndex(index).compile(dialect=dialect).string


async def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/spinney.db"
    store = SqlStore(url)
    await store.open()
    with store._nouns.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await store.close()
    newer = SqlStore(url)
    with pytest.raises(Unavailable, match=r"newer version of Spinney \(schema 9999"):
        await newer.open()
    await newer.close()


async def test_an_up_to_date_database_opens_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/spinney.db"
    store = SqlStore(url)
    await store.open()
    await store.close()
    program = f"""
import asyncio, sys
from spinney.stores.sql import SqlStore
store = SqlStore({url!r})
asyncio.run(store.open())
assert "alembic" not in sys.modules
"""
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], check=True)


def test_processes_that_open_at_once(engine: Engine) -> None:
    program = f"""
import asyncio, sys
from spinney.stores.sql import SqlStore
async def main():
    store = SqlStore({str(engine.url)!r})
    print("ready", flush=True)
    sys.stdin.read()
    await store.open()
    await store.close()
asyncio.run(main())
"""
    openers = [subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == b"ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.close()
    for opener in openers:
        assert opener.wait() == 0
        assert opener.stdout is not None
        opener.stdout.close()
    with engine.begin() as connection:
        assert connection.execute(select(func.count()).select_from(accounts)).scalar() == 1
