"""What a collector that serves many agents needs: tokens, owners of runs, digests in the ledger, outlines of chunks,
and columns by which runs are found."""

from __future__ import annotations

import json
import math

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("run", sa.Column("owner", sa.String(255)))
    op.add_column("ledger", sa.Column("first", sa.BigInteger))
    op.add_column("ledger", sa.Column("digest", sa.String(64)))
    op.add_column("param", sa.Column("number", sa.Double))
    op.add_column("param", sa.Column("is_current", sa.Integer, nullable=False, server_default="1"))
    op.create_index("param_by_key", "param", ["key", "number"])
    op.create_index("series_by_last", "series", ["key", "last_real"])
    op.create_table(
        "outline",
        sa.Column("series_id", _ID, nullable=False, autoincrement=False),
        sa.Column("part", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("series_id", "part"),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"]),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("expires_ns", sa.BigInteger),
        sa.Column("revoked_ns", sa.BigInteger),
        sa.Column("last_used_ns", sa.BigInteger),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
    )
    _fill_params()


def _fill_params() -> None:
    param = sa.table(
        "param", *(sa.column(name) for name in ("run", "key", "revision", "value", "number", "is_current"))
    )
    connection = op.get_bind()
    numbers, outdated = [], []
    newest: dict[tuple[str, str], int] = {}
    for row in connection.execute(sa.select(param).order_by(param.c.run, param.c.key, param.c.revision)):
        where = {"of_run": row.run, "of_key": row.key, "of_revision": row.revision}
        value = json.loads(row.value)
        if isinstance(value, int | float) and not isinstance(value, bool) and _is_double(value):
            numbers.append({**where, "to_number": float(value)})
        if (row.run, row.key) in newest:
            outdated.append({**where, "of_revision": newest[row.run, row.key]})
        newest[row.run, row.key] = row.revision
    this = sa.update(param).where(
        param.c.run == sa.bindparam("of_run"),
        param.c.key == sa.bindparam("of_key"),
        param.c.revision == sa.bindparam("of_revision"),
    )
    if numbers:
        connection.execute(this.values(number=sa.bindparam("to_number")), numbers)
    if outdated:
        connection.execute(this.values(is_current=0), outdated)


def _is_double(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
