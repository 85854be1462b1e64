"""Every table, in one place. A noun's fields are its columns; an execution is a few searched columns and its whole JSON text.

``seq`` counts insertions: it breaks ties between equal times, and on SQLite it is the rowid, so it costs nothing. An
execution is kept as the text that was journalled because that is byte for byte what was said (a column of its own would
lose what follows a NUL), a third cheaper to write than a column per field, and needs no migration when a field is added.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    literal_column,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from spinney.model import Account, AIRequest, Build, EmailRequest, Execution, Function, Session, Status, Token, Version

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

EXECUTION_KEYS = ("id", "function_id", "trigger", "status", "started_at")
"""The fields of an execution that have a column."""

UNFINISHED = (Status.QUEUED.value, Status.RUNNING.value)


class ExactText(TypeDecorator[str]):
    """Text that may hold any character. PostgreSQL's own text type refuses NUL, so there it is kept as UTF-8 bytes."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(LargeBinary() if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return value.encode() if value is not None and dialect.name == "postgresql" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return value.decode() if isinstance(value, bytes) else value


def _seq() -> Column[int]:
    return Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


def _id() -> Column[str]:
    return Column("id", Text, nullable=False, unique=True)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _exact(name: str) -> Column[str]:
    return Column(name, ExactText, nullable=False)


def _time(name: str, *, nullable: bool = False) -> Column[float]:
    return Column(name, Double, nullable=nullable)


def _json(name: str) -> Column[Any]:
    return Column(name, JSON, nullable=False)


def _owner(name: str, owner: str, *, index: bool = False) -> Column[str]:
    return Column(name, Text, ForeignKey(f"{owner}.id", ondelete="CASCADE"), nullable=False, index=index)


accounts = Table("accounts", metadata, _seq(), _id(), Column("name", Text, nullable=False, unique=True), _time("created_at"))

tokens = Table(
    "tokens",
    metadata,
    _seq(),
    _id(),
    _owner("account_id", "accounts", index=True),
    _text("name"),
    Column("digest", Text, nullable=False, unique=True),
    _time("created_at"),
    _json("scopes"),
    _time("expires_at", nullable=True),
    _time("revoked_at", nullable=True),
    _time("last_used_at", nullable=True),
)

sessions = Table("sessions", metadata, _seq(), _id(), _time("created_at"), _time("expires_at"))

functions = Table(
    "functions",
    metadata,
    _seq(),
    _id(),
    _owner("account_id", "accounts"),
    _text("dialect"),
    _text("name"),
    _text("version_id"),
    _time("created_at"),
    _time("updated_at"),
    _exact("description"),
    _json("settings"),
    Column("last_number", Integer, nullable=False, server_default="1"),
    UniqueConstraint("account_id", "dialect", "name"),
)

versions = Table(
    "versions",
    metadata,
    _seq(),
    _id(),
    _owner("function_id", "functions"),
    Column("number", Integer, nullable=False),
    _text("runtime"),
    _exact("handler"),
    _exact("source"),
    _time("created_at"),
    Column("memory_mb", Integer, nullable=False),
    Column("timeout_s", Double, nullable=False),
    _json("environment"),
    _json("settings"),
    UniqueConstraint("function_id", "number"),
)

builds = Table(
    "builds",
    metadata,
    _seq(),
    _id(),
    _owner("function_id", "functions", index=True),
    _text("language"),
    _text("status"),
    _time("created_at"),
    _time("started_at", nullable=True),
    _time("finished_at", nullable=True),
    Column("artifact", Text),
    Column("error", ExactText),
)

# No foreign key: executions are written in batches, some after their function is gone. ``sweep`` removes those.
executions = Table(
    "executions",
    metadata,
    _seq(),
    _id(),
    _text("function_id"),
    _text("trigger"),
    _text("status"),
    _time("started_at"),
    _text("record"),
    Index(None, "function_id", "started_at"),
)

# Literal, for SQLite uses a partial index only for a query that repeats its condition word for word.
unfinished: ColumnElement[bool] = literal_column(f"status IN ('{UNFINISHED[0]}', '{UNFINISHED[1]}')")
Index("ix_executions_unfinished", executions.c.status, sqlite_where=unfinished, postgresql_where=unfinished)

ai_requests = Table(
    "ai_requests",
    metadata,
    _seq(),
    _id(),
    _owner("function_id", "functions", index=True),
    Column("execution_id", Text, nullable=False, index=True),
    _exact("provider"),
    _exact("model"),
    _exact("endpoint"),
    _exact("request"),
    Column("response", ExactText),
    _text("status"),
    Column("error", ExactText),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("duration_ms", Integer, nullable=False),
    _time("created_at"),
)

email_requests = Table(
    "email_requests",
    metadata,
    _seq(),
    _id(),
    _owner("function_id", "functions", index=True),
    Column("execution_id", Text, nullable=False, index=True),
    _exact("sender"),
    _json("recipients"),
    _exact("subject"),
    Column("has_text", Boolean, nullable=False),
    Column("has_html", Boolean, nullable=False),
    _exact("request"),
    Column("response", ExactText),
    _text("status"),
    Column("error", ExactText),
    Column("email_id", ExactText),
    Column("duration_ms", Integer, nullable=False),
    _time("created_at"),
)


def _entries(kind: str, owner: str) -> Table:
    """A map from bytes to bytes for each owner."""
    return Table(
        kind,
        metadata,
        _owner("owner_id", owner),
        Column("key", LargeBinary, nullable=False),
        Column("value", LargeBinary, nullable=False),
        PrimaryKeyConstraint("owner_id", "key"),
    )


meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", BigInteger, nullable=False))

TABLES: dict[type, Table] = {
    Account: accounts,
    Token: tokens,
    Session: sessions,
    Function: functions,
    Version: versions,
    Build: builds,
    Execution: executions,
    AIRequest: ai_requests,
    EmailRequest: email_requests,
}

OF_EXECUTIONS = (ai_requests, email_requests)
"""What goes with executions, by ``execution_id``."""

ENTRIES: dict[str, tuple[Table, Table]] = {
    "kv": (_entries("kv", "functions"), functions),
    "account_kv": (_entries("account_kv", "accounts"), accounts),
    "environment": (_entries("environment", "functions"), functions),
}
"""By the kind of a scope: its entries, and their owners."""
