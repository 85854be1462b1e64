"""Sessions of who logged in, and version numbers that do not come back when versions are deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_sessions"),
        sa.UniqueConstraint("id", name="uq_sessions_id"),
    )
    op.add_column("functions", sa.Column("last_number", sa.Integer, nullable=False, server_default="1"))
    op.execute(
        "UPDATE functions SET last_number = "
        "coalesce((SELECT max(number) FROM versions WHERE versions.function_id = functions.id), 1)"
    )


def downgrade() -> None:
    op.drop_column("functions", "last_number")
    op.drop_table("sessions")
