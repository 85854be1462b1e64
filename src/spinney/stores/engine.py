"""What differs between SQLite and PostgreSQL: connections, locks, the statement for a batch, and what their errors mean."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError

from spinney.errors import Conflict, Unavailable
from spinney.stores.tables import EXECUTION_KEYS, UNFINISHED

BUSY_TIMEOUT_S = 5.0
CHECKPOINT_PAGES = 8000
"""32 MiB. A checkpoint waits for the disk, and pages written often go to it once each time: rarer is cheaper."""

SLOTS = 500
"""Executions of one INSERT on SQLite. One statement text for every batch size keeps it prepared."""

SCHEMA_LOCK = 0x5B1AAE
"""The PostgreSQL advisory lock under which the schema changes."""


def make_engine(url: str, *, durable: bool) -> Engine:
    """One connection to the database, made at first use; ``durable`` commits survive a power cut, others only a killed process.

    Transactions of ``engine.execution_options(writes=True)`` take SQLite's write lock when they begin, so that they never
    fail half-way because another took it.
    """
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True)
    engine = create_engine(url, pool_size=1, max_overflow=0, connect_args={"timeout": BUSY_TIMEOUT_S})
    synchronous = "FULL" if durable else "NORMAL"

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # sqlite3 begins no transactions of its own
        _use_wal(connection)
        for pragma in (
            f"synchronous={synchronous}",
            "foreign_keys=ON",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
            f"journal_size_limit={CHECKPOINT_PAGES * 4096}",
            "cache_size=-32000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")

    return engine


def create_private(url: str) -> None:
    """Make SQLite's file, when it is not there yet, readable for its owner only: it holds sources and secrets."""
    database = make_url(url).database
    if make_url(url).get_backend_name() == "sqlite" and database:
        with suppress(OSError):  # SQLite will say it better
            os.close(os.open(database, os.O_RDWR | os.O_CREAT, 0o600))


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn write-ahead logging on. SQLite does not apply its busy timeout here, so two first openers would fail each other."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def lock_schema(connection: Connection) -> None:
    """Hold off every other opener until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})


_UNFINISHED = f"executions.status IN ('{UNFINISHED[0]}', '{UNFINISHED[1]}')"
_UPSERT = (
    "ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in (*EXECUTION_KEYS[1:], "record"))
    + f" WHERE {_UNFINISHED}"
)
# A row at a time (executemany) would hand the interpreter's lock back and forth with the event loop at each row; this is one
# sqlite3_step without the lock. json_each over the joined batch would parse everything twice.
_SQLITE_BATCH = (
    f"INSERT INTO executions ({', '.join(EXECUTION_KEYS)}, record) "  # noqa: S608  every part is a constant
    f"SELECT {', '.join(f'''json_extract(r, '$.{name}')''' for name in EXECUTION_KEYS)}, r "
    f"FROM (SELECT column1 AS r FROM (VALUES {', '.join(['(?)'] * SLOTS)})) WHERE r IS NOT NULL {_UPSERT}"
)
# PostgreSQL refuses to touch a row twice in one statement: of each id the last final record stands, or else the last.
_POSTGRESQL_BATCH = f"""
INSERT INTO executions ({", ".join(EXECUTION_KEYS)}, record)
SELECT {", ".join(EXECUTION_KEYS)}, record FROM (
    SELECT DISTINCT ON (id) * FROM (
        SELECT {", ".join(f"r::json->>'{name}' AS {name}" for name in EXECUTION_KEYS[:-1])},
               (r::json->>'started_at')::double precision AS started_at, r AS record, n
        FROM unnest(CAST(:batch AS text[])) WITH ORDINALITY AS batch (r, n)) AS said
    ORDER BY id, status IN ('{UNFINISHED[0]}', '{UNFINISHED[1]}'), n DESC) AS chosen
ORDER BY n {_UPSERT}
"""  # noqa: S608  every part is a constant


def write_batch(connection: Connection, batch: Sequence[bytes]) -> None:
    """Insert executions from their JSON texts. A final one stays as it is; a queued or running one is overwritten."""
    records: list[str | None] = [record.decode() for record in batch]
    if connection.dialect.name == "postgresql":
        connection.execute(text(_POSTGRESQL_BATCH), {"batch": records})
        return
    records += [None] * (-len(records) % SLOTS)
    for start in range(0, len(records), SLOTS):
        connection.exec_driver_sql(_SQLITE_BATCH, tuple(records[start : start + SLOTS]))


@contextmanager
def safe_errors() -> Iterator[None]:
    """Database errors as Conflict or Unavailable, whose messages tell nothing about the host. Bugs stay what they are."""
    try:
        yield
    except IntegrityError as error:
        raise Conflict("it exists already, or what it belongs to is gone") from error
    except (ProgrammingError, DataError, NotSupportedError):
        raise
    except DBAPIError as error:
        raise Unavailable(_reason(error.orig)) from error


_REASONS = {
    sqlite3.SQLITE_FULL: "the disk of the data directory is full",
    sqlite3.SQLITE_BUSY: "the store is busy",
    sqlite3.SQLITE_LOCKED: "the store is busy",
    sqlite3.SQLITE_READONLY: "the store cannot be written",
    sqlite3.SQLITE_CANTOPEN: "the store cannot be opened",
    sqlite3.SQLITE_NOTADB: "the store's file is not a database",
    sqlite3.SQLITE_CORRUPT: "the store's file is damaged",
    sqlite3.SQLITE_IOERR: "the store's disk fails, or is full",
}


def _reason(error: Any) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    return _REASONS.get(code & 0xFF if code is not None else -1, "the store is not available")
