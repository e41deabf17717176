"""Whose weights are in a file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

# Columns that refer to each other must be spelled alike, which differs by engine.
from looptap_collector.backends.types import Name

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    # MySQL makes each thing at once: an upgrade that was cut off has left some behind.
    known = sa.inspect(op.get_bind())
    if "weights" not in {column["name"] for column in known.get_columns("lineage")}:
        op.add_column("lineage", sa.Column("weights", Name(64)))
    if "lineage_by_weights" not in {index["name"] for index in known.get_indexes("lineage")}:
        op.create_index("lineage_by_weights", "lineage", ["weights"])
