"""One schema, whichever way a store came to it; older stores are brought along, newer ones refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from looptap_collector.backends import schema
from looptap_collector.backends.schema import UnusableStore
from looptap_collector.backends.sqlite import APPLICATION_ID, SqliteBackend
from looptap_collector.testing.batches import Journal, points, started, told, write


def migrated(path: Path, revision: str) -> None:
    """A store as a version of that revision would have made it, by its migrations."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
        schema.upgrade(connection, revision)
    engine.dispose()


def objects(path: Path) -> dict[str, object]:
    """Every table by its columns and keys (a column that was added later is written differently), the rest by its text."""
    connection = sqlite3.connect(path)
    found: dict[str, object] = {}
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall():
        pragmas = ("table_info", "foreign_key_list", "index_list")
        parts = [connection.execute(f"PRAGMA {pragma}('{name}')").fetchall() for pragma in pragmas]
        # Autoindexes are numbered as they were made.
        parts[-1] = sorted(row[1:] for row in parts[-1])
        found[f"{kind} {name}"] = parts if kind == "table" else sql
    connection.close()
    return found


def test_a_fresh_store_equals_an_upgraded_one(tmp_path: Path) -> None:
    """Tables, indexes and views are the same, made at once or by all migrations."""
    SqliteBackend(tmp_path / "fresh").close()
    migrated(tmp_path / "migrated", schema.HEAD)
    assert objects(tmp_path / "fresh") == objects(tmp_path / "migrated")


def test_the_revisions_are_those_of_the_migrations() -> None:
    """The list in schema.py and the files of migrations/versions are the same, in the same order."""
    scripts = ScriptDirectory(str(schema.MIGRATIONS))
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == schema.REVISIONS
    assert scripts.get_current_head() == schema.HEAD


@pytest.mark.parametrize("revision", schema.REVISIONS[:-1])
def test_an_older_store_is_upgraded_when_it_is_opened(tmp_path: Path, revision: str) -> None:
    """Whatever it held is there afterwards, and the tables are those of a fresh store."""
    path = tmp_path / "old"
    migrated(path, revision)
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO experiment (name) VALUES ('kept')")
    connection.commit()
    connection.close()
    backend = SqliteBackend(path)
    write(backend, Journal().batch(started(experiment="kept"), series=[points("x", [1], [2.0])]))
    assert told(backend.history("r1", "x", {})) == {"steps": [1], "values": [2.0]}
    backend.close()
    SqliteBackend(tmp_path / "fresh").close()
    assert objects(path) == objects(tmp_path / "fresh")
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM experiment").fetchone() == (1,)
    connection.close()


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    """A store of a later version is left alone, with one line that says what to do."""
    path = tmp_path / "new"
    SqliteBackend(path).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(UnusableStore, match=r"newer looptap .*'9999'.*pip install -U looptap$") as caught:
        SqliteBackend(path)
    assert "\n" not in str(caught.value)


def test_our_mark_on_foreign_tables_is_not_enough(tmp_path: Path) -> None:
    """A file that carries our application id but not our tables is refused."""
    path = tmp_path / "crafted"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute("CREATE TABLE alembic_version (something TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(UnusableStore, match="is not a looptap store"):
        SqliteBackend(path)


def test_a_fresh_store_needs_no_alembic(tmp_path: Path) -> None:
    """A training process that makes a store and reopens it imports neither Alembic nor anything of the query
    side."""
    code = (
        "import sys; from pathlib import Path; from looptap_collector.embedded import Embedded\n"
        "for _ in range(2): Embedded(Path(sys.argv[1])).close()\n"
        "print(sorted({'alembic', 'mako', 'fsspec', 'fastapi', 'pandas', 'sqlalchemy.orm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
