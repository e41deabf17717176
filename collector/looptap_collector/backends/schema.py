"""Bringing the tables of a store to the form that this version works with.

A fresh store is made in one go from :mod:`looptap_collector.backends.tables`; Alembic is imported only to
upgrade an older one, because a training process pays for every import.
``tests/collector/backends/test_schema.py`` holds both ways to the same result.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, inspect, select, text

from looptap_collector.backends import tables

#: Revisions of the schema, oldest first; each is a file of ``migrations/versions``.
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
HEAD = REVISIONS[-1]
_UNFINISHED = "unfinished"
MIGRATIONS = Path(__file__).parent.parent / "migrations"

# The table in which Alembic notes the revision, in Alembic's own form.
_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class UnusableStore(RuntimeError):
    """The store cannot be opened by this version and trying again does not help; the message says why, in one
    line."""


def bring_to_head(connection: Connection, place: str) -> None:
    """Create or upgrade the tables, inside the transaction of the caller (which keeps other processes out).

    Raises :class:`UnusableStore` when a newer looptap made them or when they are somebody else's.
    """
    found = revision(connection)
    if found == _UNFINISHED:
        # MySQL keeps no tables back until the end of a transaction; nothing was ever stored in these.
        connection.execute(text("DROP VIEW IF EXISTS run_metrics"))
        tables.metadata.drop_all(connection)
        _version.drop(connection)
    if not inspect(connection).get_table_names():
        _version.create(connection)
        connection.execute(_version.insert().values(version_num=_UNFINISHED))
        tables.metadata.create_all(connection)
        connection.execute(_version.update().values(version_num=HEAD))
        return
    if found is None:
        raise UnusableStore(f"{place} is not a looptap store")
    if found == HEAD:  # another process was faster
        return
    if found not in REVISIONS:
        raise UnusableStore(
            f"{place} was made by a newer looptap (its schema is {found!r}, this version knows {HEAD!r}): "
            "pip install -U looptap"
        )
    upgrade(connection)


def upgrade(connection: Connection, to: str = HEAD) -> None:
    """Run the migrations up to a revision, from whichever the store is at (an empty one too)."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def revision(connection: Connection) -> str | None:
    """At which the tables are. None where the store has no such table in Alembic's form. Changes nothing and locks nobody
    out."""
    found = inspect(connection)
    if not found.has_table(_version.name) or "version_num" not in {
        column["name"] for column in found.get_columns(_version.name)
    }:
        return None
    return connection.execute(select(_version.c.version_num)).scalar_one_or_none()
