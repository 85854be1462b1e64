"""Accounts, tokens, functions, versions, executions."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _seq() -> sa.Column[int]:
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _exact(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text().with_variant(sa.LargeBinary(), "postgresql"), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _double(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


def _json(name: str) -> sa.Column[dict[str, str]]:
    return sa.Column(name, sa.JSON, nullable=False)


def _pk(table: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint("seq", name=f"pk_{table}")


def _unique(table: str, *names: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*names, name=f"uq_{table}_{'_'.join(names)}")


def _owner(table: str, name: str, owner: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([name], [f"{owner}.id"], name=f"fk_{table}_{name}", ondelete="CASCADE")


def upgrade() -> None:
    accounts = op.create_table(
        "accounts",
        _seq(),
        _text("id"),
        _text("name"),
        _double("created_at"),
        _pk("accounts"),
        _unique("accounts", "id"),
        _unique("accounts", "name"),
    )
    _create_tokens()
    _create_functions()
    _create_versions()
    _create_executions()
    meta = op.create_table(
        "meta", _text("name"), sa.Column("value", sa.BigInteger, nullable=False), sa.PrimaryKeyConstraint("name", name="pk_meta")
    )
    op.bulk_insert(accounts, [{"id": "default", "name": "default", "created_at": time.time()}])
    op.bulk_insert(meta, [{"name": "generation", "value": 0}])


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        _seq(),
        _text("id"),
        _text("account_id"),
        _text("name"),
        _text("digest"),
        _double("created_at"),
        _json("scopes"),
        _double("expires_at", nullable=True),
        _double("revoked_at", nullable=True),
        _double("last_used_at", nullable=True),
        _owner("tokens", "account_id", "accounts"),
        _pk("tokens"),
        _unique("tokens", "id"),
        _unique("tokens", "digest"),
    )
    op.create_index("ix_tokens_account_id", "tokens", ["account_id"])


def _create_functions() -> None:
    op.create_table(
        "functions",
        _seq(),
        _text("id"),
        _text("account_id"),
        _text("dialect"),
        _text("name"),
        _text("version_id"),
        _double("created_at"),
        _double("updated_at"),
        _exact("description"),
        _json("settings"),
        _owner("functions", "account_id", "accounts"),
        _pk("functions"),
        _unique("functions", "id"),
        _unique("functions", "account_id", "dialect", "name"),
    )


def _create_versions() -> None:
    op.create_table(
        "versions",
        _seq(),
        _text("id"),
        _text("function_id"),
        _number("number"),
        _text("runtime"),
        _exact("handler"),
        _exact("source"),
        _double("created_at"),
        _number("memory_mb"),
        _double("timeout_s"),
        _json("environment"),
        _json("settings"),
        _owner("versions", "function_id", "functions"),
        _pk("versions"),
        _unique("versions", "id"),
        _unique("versions", "function_id", "number"),
    )


def _create_executions() -> None:
    op.create_table(
        "executions",
        _seq(),
        _text("id"),
        _text("function_id"),
        _text("trigger"),
        _text("status"),
        _double("started_at"),
        _text("record"),
        _pk("executions"),
        _unique("executions", "id"),
    )
    op.create_index("ix_executions_function_id_started_at", "executions", ["function_id", "started_at"])
    unfinished = sa.text("status IN ('queued', 'running')")
    op.create_index("ix_executions_unfinished", "executions", ["status"], sqlite_where=unfinished, postgresql_where=unfinished)


def downgrade() -> None:
    for table in ("meta", "executions", "versions", "functions", "tokens", "accounts"):
        op.drop_table(table)
