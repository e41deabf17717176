"""What runs warned of while they trained."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

# Columns that refer to each other must be spelled alike, which differs by engine.
from looptap_collector.backends.types import Document, Name

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # MySQL keeps no tables back until the end of a transaction; nothing was ever stored in this one.
    op.execute("DROP TABLE IF EXISTS alert")
    op.create_table(
        "alert",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("run", Name(64), nullable=False),
        sa.Column("kind", Name(64), nullable=False),
        sa.Column("severity", Name(16), nullable=False),
        sa.Column("state", Name(16), nullable=False),
        sa.Column("message", Document, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("key", Name(512)),
        sa.Column("value", sa.BigInteger),
        sa.Column("threshold", sa.BigInteger),
        sa.Column("step", sa.BigInteger),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["run"], ["run.run"]),
    )
    op.create_index("alert_by_run", "alert", ["run"])
    op.create_index("alert_by_time", "alert", ["time_ns"])
