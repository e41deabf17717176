"""Which windows of serving are made of many."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_TABLE = "serving_window"
_INDEXES = {"serving_window_of_run": ["run", "time_ns"], "serving_window_by_stretch": ["stretch", "time_ns"]}


def upgrade() -> None:
    # MySQL makes each thing at once: an upgrade that was cut off has left some behind.
    known = sa.inspect(op.get_bind())
    if "stretch" not in {column["name"] for column in known.get_columns(_TABLE)}:
        op.add_column(_TABLE, sa.Column("stretch", sa.Integer, nullable=False, server_default="0"))
    there = {index["name"] for index in known.get_indexes(_TABLE)}
    for name, columns in _INDEXES.items():
        if name not in there:
            op.create_index(name, _TABLE, columns)
    # Last, since MySQL wants an index on what refers to a run at any time.
    if "serving_window_by_run" in there:
        op.drop_index("serving_window_by_run", _TABLE)
