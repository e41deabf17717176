"""Stores that older versions left behind are opened, upgraded and told as they were told then."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from collector.backends.pictures import picture
from looptap.events import Param, Tag
from looptap_collector.backend import Outcome
from looptap_collector.backends.schema import HEAD
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.testing.batches import Journal, points, started, write

FIXTURES = Path(__file__).parent / "fixtures"
REVISIONS = [path.name.removeprefix("schema-").removesuffix(".json") for path in sorted(FIXTURES.glob("*.json"))]


@pytest.fixture(params=REVISIONS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, object]]:
    """A store of that revision, and what it told when it was made."""
    path = tmp_path / "looptap.db"
    path.write_bytes(zstandard.decompress((FIXTURES / f"schema-{request.param}.db.zst").read_bytes()))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (request.param,)
    return path, json.loads((FIXTURES / f"schema-{request.param}.json").read_text())


def test_an_old_store_tells_what_it_told(old: tuple[Path, dict[str, object]]) -> None:
    """Every run, param, tag, point, artifact, note and ledger entry, to the bit; the second time it is up to date."""
    path, told = old
    for _ in range(2):
        backend = SqliteBackend(path)
        # Through JSON, as the expected one went.
        assert json.loads(json.dumps(picture(backend))) == told
        backend.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_old_params_can_be_filtered(old: tuple[Path, dict[str, object]]) -> None:
    """The columns that filters use are filled from the values of then: the number where there is one, and which revision
    is the current one."""
    path, _ = old
    SqliteBackend(path).close()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT run, key, number, is_current FROM param ORDER BY run, key, revision"
        ).fetchall()
    numbers = [1.0, 1.0, None, None, None, None, None, 2.0**70, None, None, None, -0.0]
    assert rows == [
        ("r1", "lr", 0.1, 0),
        ("r1", "lr", 0.01, 0),
        ("r1", "lr", None, 0),
        ("r1", "lr", 1e-3, 1),
        *(("r1", f"p{number:02}", value, 1) for number, value in enumerate(numbers)),
        ("r2", "lr", 1.0, 0),
        ("r2", "lr", 2.0, 1),
    ]


def test_a_run_goes_on_after_the_upgrade(old: tuple[Path, dict[str, object]]) -> None:
    """Its journal goes on where it was, its series grow, its params get the next revision, and copies of old batches are
    known."""
    path, _ = old
    backend = SqliteBackend(path)
    journal = Journal("host-18-0", "r2")
    first = journal.batch(started("r2", name="brave-lynx-3", experiment="digits"), Param("lr", 1, "user", 1))
    assert write(backend, first) is Outcome.DUPLICATE
    journal.next = backend.position("host-18-0")
    records = [Param("lr", 2, "user", 3), Param("lr", 3, "user", 4), Tag("a", "b", 1)]
    assert write(backend, journal.batch(*records, series=[points("loss", [3], [0.25])])) is Outcome.STORED
    assert [(row.value, row.revision) for row in backend.params("r2")] == [(3, 2)]
    assert backend.history("r2", "loss", {}).steps.tolist() == [1, 2, 3]
    assert backend.delete_run("r1")
    backend.close()
