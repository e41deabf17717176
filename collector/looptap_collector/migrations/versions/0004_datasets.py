"""Data that runs were fed with: datasets, their versions, and which run used which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

# Columns that refer to each other must be spelled alike, which differs by engine.
from looptap_collector.backends.types import Document, Name

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # MySQL keeps no tables back until the end of a transaction; nothing was ever stored in these.
    for name in ("run_dataset", "dataset_version", "dataset"):
        op.execute(f"DROP TABLE IF EXISTS {name}")
    op.create_table("dataset", sa.Column("name", Name(512), nullable=False), sa.PrimaryKeyConstraint("name"))
    op.create_table(
        "dataset_version",
        sa.Column("version", Name(64), nullable=False),
        sa.Column("name", Name(512), nullable=False),
        sa.Column("fingerprint", Name(255), nullable=False),
        sa.Column("algorithm", Name(64), nullable=False),
        sa.Column("covers", Name(255), nullable=False),
        sa.PrimaryKeyConstraint("version"),
        sa.ForeignKeyConstraint(["name"], ["dataset.name"]),
    )
    op.create_index("dataset_version_by_name", "dataset_version", ["name"])
    op.create_index("dataset_version_by_fingerprint", "dataset_version", ["fingerprint"])
    op.create_table(
        "run_dataset",
        sa.Column("run", Name(64), nullable=False),
        sa.Column("role", Name(64), nullable=False),
        sa.Column("name", Name(512), nullable=False),
        sa.Column("version", Name(64)),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("told", Document, nullable=False),
        sa.PrimaryKeyConstraint("run", "role", "name"),
        sa.ForeignKeyConstraint(["run"], ["run.run"]),
        sa.ForeignKeyConstraint(["name"], ["dataset.name"]),
        sa.ForeignKeyConstraint(["version"], ["dataset_version.version"]),
    )
    op.create_index("run_dataset_by_version", "run_dataset", ["version"])
    op.create_index("run_dataset_by_name", "run_dataset", ["name"])
