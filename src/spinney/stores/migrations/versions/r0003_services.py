"""What the host does for functions while they run: their entries, and the requests that they make of others."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _exact(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text().with_variant(sa.LargeBinary(), "postgresql"), nullable=nullable)


def _owner(table: str, name: str, owner: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([name], [f"{owner}.id"], name=f"fk_{table}_{name}", ondelete="CASCADE")


def upgrade() -> None:
    for kind, owner in (("kv", "functions"), ("account_kv", "accounts"), ("environment", "functions")):
        op.create_table(
            kind,
            _text("owner_id"),
            sa.Column("key", sa.LargeBinary, nullable=False),
            sa.Column("value", sa.LargeBinary, nullable=False),
            _owner(kind, "owner_id", owner),
            sa.PrimaryKeyConstraint("owner_id", "key", name=f"pk_{kind}"),
        )
    _create_requests(
        "ai_requests",
        what=[_exact("provider"), _exact("model"), _exact("endpoint")],
        result=[sa.Column(name, sa.BigInteger, nullable=True) for name in ("input_tokens", "output_tokens")],
    )
    _create_requests(
        "email_requests",
        what=[
            _exact("sender"),
            sa.Column("recipients", sa.JSON, nullable=False),
            _exact("subject"),
            sa.Column("has_text", sa.Boolean, nullable=False),
            sa.Column("has_html", sa.Boolean, nullable=False),
        ],
        result=[_exact("email_id", nullable=True)],
    )


def _create_requests(table: str, what: list[sa.Column[Any]], result: list[sa.Column[Any]]) -> None:
    op.create_table(
        table,
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        _text("id"),
        _text("function_id"),
        _text("execution_id"),
        *what,
        _exact("request"),
        _exact("response", nullable=True),
        _text("status"),
        _exact("error", nullable=True),
        *result,
        sa.Column("duration_ms", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        _owner(table, "function_id", "functions"),
        sa.PrimaryKeyConstraint("seq", name=f"pk_{table}"),
        sa.UniqueConstraint("id", name=f"uq_{table}_id"),
    )
    op.create_index(f"ix_{table}_function_id", table, ["function_id"])
    op.create_index(f"ix_{table}_execution_id", table, ["execution_id"])


def downgrade() -> None:
    for table in ("email_requests", "ai_requests", "environment", "account_kv", "kv"):
        op.drop_table(table)
