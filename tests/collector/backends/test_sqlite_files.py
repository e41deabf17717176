"""What only a file can go through: killed writers, locks, a full disk, foreign files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from looptap.events import Rejected, RunEnded, Tag
from looptap_collector.backend import Unavailable
from looptap_collector.backends.schema import UnusableStore
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.testing.batches import Journal, started, write

TESTS = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "looptap.db"


WRITER = """
import sys
from pathlib import Path
from looptap_collector.testing.batches import START_NS, Journal, points, started, write
from looptap.events import Param
from looptap_collector.backends.sqlite import SqliteBackend

path, number = Path(sys.argv[1]), sys.argv[2]
backend = SqliteBackend(path)
journal = Journal("j" + number)
write(backend, journal.batch(started()))
print("writing", flush=True)
turn = 0
while True:
    steps = range(turn * 100, turn * 100 + 100)
    pair = [points(key + number, steps, [1.0] * 100) for key in "ab"]
    write(backend, journal.batch(Param("turn" + number, turn, "user", turn), series=pair))
    turn += 1
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )


def test_killed_writers_leave_whole_batches(path: Path) -> None:
    """Two processes on one store, killed at 20 different moments: every batch is there with its ledger entry,
    or not at all."""
    for number in range(10):
        writers = [python(WRITER, str(path), f"{number}{half}") for half in "lr"]
        for delay, writer in zip((0.003 * number, 0.011 * number), writers, strict=True):
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.communicate()
    backend = SqliteBackend(path)
    counts = {row.key: row.count for row in backend.series(["r1"])}
    turns = {row.key: row.revision + 1 for row in backend.params("r1")}
    entries = backend.delivery("r1")
    assert len(entries) == 20
    for entry in entries:
        writer_name = entry.journal[1:]
        batches = turns.get("turn" + writer_name, 0)
        assert entry.stored == entry.next == 1 + 201 * batches
        for key in "ab":
            assert counts.get(key + writer_name, 0) == 100 * batches
            if batches:
                assert backend.history("r1", key + writer_name, {}).steps.tolist() == list(range(100 * batches))
    assert sum(turns.values()) > 0
    backend.close()


def test_locked_store_is_worth_another_try(path: Path) -> None:
    """While another process holds the store, a write fails as "not now"; afterwards the same batch is
    stored."""
    backend = SqliteBackend(path, busy_seconds=0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    batch = Journal().batch(started())
    with pytest.raises(Unavailable, match="database is locked") as caught:
        write(backend, batch)
    assert not isinstance(caught.value, Rejected)
    assert "\n" not in str(caught.value)
    holder.execute("ROLLBACK")
    holder.close()
    write(backend, batch)
    assert backend.position("j1") == 1
    backend.close()


FILLER = """
import resource, sys
from pathlib import Path
import numpy as np
from looptap_collector.testing.batches import START_NS, Journal, points, started, write
from looptap_collector.backend import Unavailable
from looptap_collector.backends.sqlite import SqliteBackend

backend = SqliteBackend(Path(sys.argv[1]))
journal = Journal()
write(backend, journal.batch(started()))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
random = np.random.default_rng(0)
while True:
    before = journal.next
    batch = journal.batch(series=[points("x", range(before, before + 3_000), random.random(3_000))])
    try:
        write(backend, batch)
    except Unavailable as error:
        break
print(before, backend.position("j1"), backend.series(["r1"])[0].count)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
write(backend, batch)
print(journal.next, backend.position("j1"), len(backend.history("r1", "x", {}).steps) + 1)
"""


def test_full_disk_is_worth_another_try(path: Path) -> None:
    """When the file cannot grow, nothing of the batch is stored; when there is room again, the same batch
    goes in."""
    output, _ = python(FILLER, str(path)).communicate()
    full, freed = ([int(number) for number in line.split()] for line in output.splitlines())
    assert full[0] > 3_000
    assert full == [full[0], full[0], full[0] - 1]
    assert freed == [freed[0]] * 3


def test_many_make_the_store_at_once(tmp_path: Path) -> None:
    """Processes that start together find one store, whoever made it."""
    for turn in range(15):
        place = tmp_path / str(turn)
        with ThreadPoolExecutor(8) as pool:
            opened = list(pool.map(lambda _, place=place: SqliteBackend(place), range(8)))
        for number, backend in enumerate(opened):
            write(backend, Journal(f"j{number}").batch(started()))
            backend.close()


@pytest.mark.parametrize("replace", [False, True])
def test_store_that_was_removed_takes_nothing(path: Path, replace: bool) -> None:
    """Nothing is written into a file that was deleted or replaced under us, where nobody would find it."""
    backend = SqliteBackend(path)
    journal = Journal()
    write(backend, journal.batch(started()))
    for file in path.parent.glob("looptap.db*"):
        file.rename(file.with_name("gone-" + file.name))
    if replace:
        SqliteBackend(path).close()
    with pytest.raises(Unavailable, match="moved, replaced or deleted"):
        write(backend, journal.batch(RunEnded("finished", 1)))
    backend.close()


def test_store_whose_log_was_removed_takes_nothing(path: Path) -> None:
    """The newest batches are in the log beside the file until it is merged; without it they would not be found."""
    backend = SqliteBackend(path)
    journal = Journal()
    write(backend, journal.batch(started()))
    write(backend, journal.batch(Tag("a", "b", 1)))
    path.with_name("looptap.db-wal").unlink()
    with pytest.raises(Unavailable, match=r"looptap\.db-wal was moved, replaced or deleted"):
        write(backend, journal.batch(RunEnded("finished", 1)))
    backend.close()


# Files that are not ours


def test_foreign_database_is_left_alone(path: Path) -> None:
    """A SQLite file of another program is refused in one line and not changed by a byte."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE run (name TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UnusableStore, match=r"is not a looptap store$"):
        SqliteBackend(path)
    assert path.read_bytes() == before


def test_file_that_is_no_database_is_left_alone(path: Path) -> None:
    """Any other file is refused in one line and not changed by a byte."""
    path.write_bytes(b"these are my notes, not a database" * 200)
    before = path.read_bytes()
    with pytest.raises(UnusableStore, match="not a looptap store") as caught:
        SqliteBackend(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("planted", "what"),
    [
        (("CREATE TRIGGER evil AFTER INSERT ON tag BEGIN DELETE FROM run; END",), "trigger 'evil'"),
        (("CREATE VIEW evil AS SELECT 1",), "view 'evil'"),
        (("ALTER TABLE tag RENAME TO other", "CREATE VIEW tag AS SELECT * FROM other"), "view 'tag'"),
        (("DROP TABLE note", "CREATE VIRTUAL TABLE note USING fts5(topic)"), "virtual table 'note'"),
    ],
)
def test_store_with_something_planted_is_refused(path: Path, planted: tuple[str, ...], what: str) -> None:
    """Triggers, views and virtual tables run somebody's code when a store is read or written; one of ours has none, but for the
    view that we make for other tools."""
    SqliteBackend(path).close()
    with closing(sqlite3.connect(path)) as connection:
        for statement in planted:
            connection.execute(statement)
        connection.commit()
    with pytest.raises(UnusableStore, match=f"has a {what}, which looptap never makes"):
        SqliteBackend(path)


def test_readers_open_a_store_that_is_being_written(path: Path) -> None:
    """Opening and reading need no write lock, so a page can be looked at while a run writes."""
    writer = SqliteBackend(path)
    write(writer, Journal().batch(started()))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    reader = SqliteBackend(path, busy_seconds=0.05)
    assert reader.run("r1") is not None
    reader.close()
    holder.close()
    writer.close()
