"""The first tables. Written out, not taken from ``tables.py``: what a revision makes must never change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_RUN = sa.String(64)


def upgrade() -> None:
    op.create_table(
        "artifact",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("media_type", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "experiment",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(512), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "run",
        sa.Column("run", _RUN, nullable=False),
        sa.Column("experiment_id", _ID, nullable=False),
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("started_ns", sa.BigInteger, nullable=False),
        sa.Column("ended_ns", sa.BigInteger),
        sa.Column("heartbeat_ns", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.Column("told_end", sa.Integer, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("environment", sa.Text),
        sa.PrimaryKeyConstraint("run"),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiment.id"]),
    )
    op.create_index("run_by_start", "run", ["started_ns"])
    op.create_index("run_by_experiment", "run", ["experiment_id", "started_ns"])
    op.create_table(
        "ledger",
        sa.Column("journal", sa.String(255), nullable=False),
        sa.Column("run", _RUN, nullable=False),
        sa.Column("next", sa.BigInteger, nullable=False),
        sa.Column("stored", sa.BigInteger, nullable=False),
        sa.Column("dropped", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("journal"),
        sa.ForeignKeyConstraint(["run"], ["run.run"]),
    )
    op.create_index("ledger_by_run", "ledger", ["run"])
    op.create_table(
        "lineage",
        sa.Column("id", _ID, nullable=False),
        sa.Column("run", _RUN, nullable=False),
        sa.Column("digest", sa.String(64)),
        sa.Column("missing", sa.Text),
        sa.Column("role", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("path", sa.Text),
        sa.Column("kind", sa.String(64)),
        sa.Column("media_type", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("step", sa.BigInteger),
        sa.Column("description", sa.Text),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["run"], ["run.run"]),
        sa.ForeignKeyConstraint(["digest"], ["artifact.digest"]),
    )
    op.create_index("lineage_by_run", "lineage", ["run"])
    op.create_index("lineage_by_artifact", "lineage", ["digest"])
    op.create_table(
        "note",
        sa.Column("id", _ID, nullable=False),
        sa.Column("run", _RUN, nullable=False),
        sa.Column("topic", sa.String(512), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["run"], ["run.run"]),
    )
    op.create_index("note_by_run", "note", ["run"])
    op.create_table(
        "param",
        sa.Column("run", _RUN, nullable=False),
        sa.Column("key", sa.String(512), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("run", "key", "revision"),
        sa.ForeignKeyConstraint(["run"], ["run.run"]),
    )
    op.create_table(
        "series",
        sa.Column("id", _ID, nullable=False),
        sa.Column("run", _RUN, nullable=False),
        sa.Column("key", sa.String(512), nullable=False),
        sa.Column("context", sa.String(2048), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("nan_count", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("min", sa.BigInteger),
        sa.Column("max", sa.BigInteger),
        sa.Column("last_real", sa.Double),
        sa.Column("min_real", sa.Double),
        sa.Column("max_real", sa.Double),
        sa.Column("first_step", sa.BigInteger, nullable=False),
        sa.Column("last_step", sa.BigInteger, nullable=False),
        sa.Column("last_time_ns", sa.BigInteger, nullable=False),
        sa.Column("next_part", sa.Integer, nullable=False),
        sa.Column("tail_part", sa.Integer, nullable=False),
        sa.Column("tail_points", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run", "key", "context"),
        sa.ForeignKeyConstraint(["run"], ["run.run"]),
    )
    op.create_table(
        "chunk",
        sa.Column("series_id", _ID, nullable=False, autoincrement=False),
        sa.Column("part", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("nan_count", sa.Integer, nullable=False),
        sa.Column("min", sa.BigInteger),
        sa.Column("max", sa.BigInteger),
        sa.Column("first_step", sa.BigInteger, nullable=False),
        sa.Column("last_step", sa.BigInteger, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("series_id", "part"),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"]),
    )
    op.create_table(
        "tag",
        sa.Column("run", _RUN, nullable=False),
        sa.Column("key", sa.String(512), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("run", "key"),
        sa.ForeignKeyConstraint(["run"], ["run.run"]),
    )
