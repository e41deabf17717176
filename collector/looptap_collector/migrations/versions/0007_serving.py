"""What models answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

# Columns that refer to each other must be spelled alike, which differs by engine.
from looptap_collector.backends.types import Blob, Name

revision = "0007"
down_revision = "0006"

_INDEXES = {"run": ["run"], "model": ["model", "time_ns"], "version": ["version", "time_ns"], "time": ["time_ns"]}


def upgrade() -> None:
    # MySQL keeps no tables back until the end of a transaction; nothing was ever stored in this one.
    op.execute("DROP TABLE IF EXISTS serving_window")
    op.create_table(
        "serving_window",
        sa.Column("digest", Name(64), nullable=False),
        sa.Column("run", Name(64), nullable=False),
        sa.Column("journal", Name(255), nullable=False),
        sa.Column("model", Name(512), nullable=False),
        sa.Column("version", Name(255)),
        sa.Column("endpoint", Name(512), nullable=False),
        sa.Column("split", Name(64)),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("time_ns", "requests", "errors")),
        sa.Column("told", Blob, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        sa.ForeignKeyConstraint(["run"], ["run.run"]),
    )
    for name, columns in _INDEXES.items():
        op.create_index(f"serving_window_by_{name}", "serving_window", columns)
