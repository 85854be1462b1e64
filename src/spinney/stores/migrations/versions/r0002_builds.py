"""Builds of versions in compiled languages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "builds",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("function_id", sa.Text, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double, nullable=True),
        sa.Column("finished_at", sa.Double, nullable=True),
        sa.Column("artifact", sa.Text, nullable=True),
        sa.Column("error", sa.Text().with_variant(sa.LargeBinary(), "postgresql"), nullable=True),
        sa.ForeignKeyConstraint(["function_id"], ["functions.id"], name="fk_builds_function_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("seq", name="pk_builds"),
        sa.UniqueConstraint("id", name="uq_builds_id"),
    )
    op.create_index("ix_builds_function_id", "builds", ["function_id"])


def downgrade() -> None:
    op.drop_table("builds")
