"""Runs of several processes: of which rank a journal is, and how that rank ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("ledger", sa.Column("rank", sa.Integer, nullable=False, server_default="0"))
    op.add_column("ledger", sa.Column("status", sa.String(16)))
    op.add_column("ledger", sa.Column("ended_ns", sa.BigInteger))
    op.add_column("ledger", sa.Column("error", sa.Text))
