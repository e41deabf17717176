"""Runs of several processes: of which rank a journal is, and how that rank ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # MySQL makes each column at once: an upgrade that was cut off has left some behind.
    known = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("ledger")}
    for column in (
        sa.Column("rank", sa.Integer, nullable=False, server_default="0"),
        sa.Column("status", sa.String(16)),
        sa.Column("ended_ns", sa.BigInteger),
        sa.Column("error", sa.Text),
    ):
        if column.name not in known:
            op.add_column("ledger", column)
