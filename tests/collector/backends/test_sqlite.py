"""The contract on a real SQLite file, and what only a file can go through: killed writers, locks, a full
disk, foreign files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from collector.backends.patience import PatienceContract
from looptap.events import Artifact, Note, Param, Rejected, RunEnded, Tag
from looptap_collector.backend import Arrival, Backend, Outcome, TokenStore, Unavailable
from looptap_collector.backends.schema import UnusableStore
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.testing.backend import BackendContract, CompactionContract, Reopen, TokenContract
from looptap_collector.testing.batches import START_NS, Journal, points, started, write

TESTS = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "looptap.db"


@pytest.fixture
def reopen(path: Path) -> Iterator[Reopen]:
    opened: list[SqliteBackend] = []

    def open_another() -> Backend:
        opened.append(SqliteBackend(path, busy_seconds=30))
        return opened[-1]

    yield open_another
    for backend in opened:
        backend.close()


@pytest.fixture
def backend(reopen: Reopen) -> Backend:
    return reopen()


@pytest.fixture
def tokens(path: Path) -> Iterator[TokenStore]:
    opened = SqliteBackend(path)
    yield opened
    opened.close()


class TestContract(BackendContract):
    pass


class TestPatience(PatienceContract):
    pass


class TestTokens(TokenContract):
    pass


class TestCompaction(CompactionContract):
    pass


def test_what_filters_compare(path: Path, backend: Backend) -> None:
    """A param has its number where the value is a finite one, and one revision of it is the current one."""
    journal = Journal()
    values = [1, True, "2", 0.5, -0.0, float("inf"), float("nan"), None, 10**400, 2**70, [1]]
    records = [Param(f"p{number:02}", value, "user", 1) for number, value in enumerate(values)]
    write(backend, journal.batch(started(), *records, Param("q", 1, "user", 1), Param("q", 2, "user", 1)))
    write(backend, journal.batch(Param("q", "x", "user", 2)))
    write(backend, journal.batch(Param("q", 3, "user", 2), Param("q", 3, "user", 2), Param("q", 4, "user", 3)))
    with closing(sqlite3.connect(path)) as reader:
        rows = reader.execute("SELECT key, number, is_current FROM param ORDER BY key, revision").fetchall()
    numbers = [1.0, None, None, 0.5, -0.0, None, None, None, None, 2.0**70, None]
    assert rows[: len(values)] == [(f"p{number:02}", value, 1) for number, value in enumerate(numbers)]
    assert rows[len(values) :] == [("q", 1.0, 0), ("q", 2.0, 0), ("q", None, 0), ("q", 3.0, 0), ("q", 4.0, 1)]


def test_a_deleted_run_leaves_no_row(path: Path, backend: Backend) -> None:
    """No table has anything of it; only the name of the experiment stays."""
    records = [Param("p", 1, "u", 1), Tag("t", "v", 1), Note("n", "m", 1), Artifact("a", 1, 1, digest="ab" * 32)]
    write(backend, Journal().batch(started(), *records, series=[points("x", range(5_000), [1.0] * 5_000)]))
    assert backend.delete_run("r1")
    with closing(sqlite3.connect(path)) as reader:
        tables = [name for (name,) in reader.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        left = {name for name in tables if reader.execute(f"SELECT count(*) FROM {name}").fetchone() != (0,)}
    assert left == {"experiment", "alembic_version"}


@pytest.mark.parametrize(("durable", "level"), [(False, 1), (True, 2)])
def test_durable_store_waits_for_the_disk(path: Path, durable: bool, level: int) -> None:
    """A server acknowledges after the commit, so there the commit waits until the disk has it (synchronous=FULL)."""
    backend = SqliteBackend(path, durable=durable)
    with backend.snapshot() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == level
    backend.close()


def test_the_number_of_statements_is_that_of_one_batch(path: Path) -> None:
    """Sixteen batches of sixteen runs take as many statements as one."""
    backend = SqliteBackend(path)
    counted: list[str] = []
    event.listen(backend._engine, "before_cursor_execute", lambda *call: counted.append(call[2]))
    taken = []
    for group in (1, 16):
        journals = [Journal(f"j{group}-{number}", f"r{group}-{number}") for number in range(group)]
        backend.write([Arrival(journal.batch(started(journal.run))) for journal in journals])
        counted.clear()
        for turn in range(2):
            records = [Param("p", turn, "u", 1), Tag("t", "v", 1), Artifact("a", 1, 1, digest="ab" * 32)]
            batches = [journal.batch(*records, series=[points("x", [1], [1.0])]) for journal in journals]
            assert backend.write([Arrival(batch) for batch in batches]) == [Outcome.STORED] * group
        taken.append(len(counted))
    assert taken[0] == taken[1]
    backend.close()


def chunk_sizes(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    sizes = [count for (count,) in connection.execute("SELECT count FROM chunk ORDER BY series_id, part")]
    connection.close()
    return sizes


def test_small_chunks_become_full_ones(path: Path, backend: Backend) -> None:
    """Points that come a few at a time end in chunks of at least 2,048, with never more than 16 smaller
    ones."""
    journal = Journal()
    write(backend, journal.batch(started()))
    most_small = 0
    for turn in range(700):
        write(backend, journal.batch(series=[points("x", range(turn * 10, turn * 10 + 10), [1.0] * 10)]))
        most_small = max(most_small, sum(size < 2_048 for size in chunk_sizes(path)))
    assert most_small < 16
    write(backend, journal.batch(RunEnded("finished", 1)))
    sizes = chunk_sizes(path)
    assert sum(sizes) == 7_000
    assert [size for size in sizes if size < 2_048] == sizes[-1:]


def test_big_batch_is_cut(path: Path, backend: Backend) -> None:
    """One chunk holds 65,536 points at most, so that reading needs a bounded buffer."""
    write(backend, Journal().batch(started(), series=[points("x", range(150_000), [0.5] * 150_000)]))
    assert chunk_sizes(path) == [50_000] * 3


def test_damaged_chunk_does_not_keep_new_points_out(path: Path, backend: Backend) -> None:
    """A small chunk that the disk spoiled stays as it is, and the run goes on: later points are stored and merged."""
    journal = Journal()
    write(backend, journal.batch(started(), series=[points("loss", [0], [0.0])]))
    with sqlite3.connect(path) as spoiler:
        spoiler.execute("UPDATE chunk SET data = x'00'")
    spoiler.close()
    for step in range(1, 3000):
        if step % 100 == 0:
            write(backend, journal.batch(series=[points("loss", range(step - 99, step + 1), [0.5] * 100)]))
    write(backend, journal.batch(RunEnded("finished", START_NS)))
    (row,) = backend.series(["r1"])
    assert row.count == 2901
    with sqlite3.connect(path) as reader:
        counts = [count for (count,) in reader.execute("SELECT count FROM chunk ORDER BY part")]
    reader.close()
    assert counts[0] == 1
    assert sum(counts) == 2901
    assert len(counts) <= 20
    assert counts[-1] > 1000, "merging goes on behind the damage"


def test_run_given_up_is_merged(path: Path, backend: Backend) -> None:
    """A run that is found dead gets its small chunks merged like one that ended."""
    journal = Journal()
    for turn in range(5):
        write(backend, journal.batch(*[started()] * (turn == 0), series=[points("x", [turn], [1.0])]))
    assert chunk_sizes(path) == [1] * 5
    backend.set_status("r1", "lost", ended_ns=None)
    assert chunk_sizes(path) == [5]


def test_any_sqlite_tool_reads_the_metrics(path: Path, backend: Backend) -> None:
    """The view run_metrics has names and plain numbers, and says what a number that SQL cannot hold is."""
    odd = {"nan": float("nan"), "inf": float("inf"), "ninf": float("-inf"), "plain": 0.25}
    write(
        backend, Journal().batch(started(), series=[points(key, [1, 2], [-1.5, value]) for key, value in odd.items()])
    )
    rows = (
        sqlite3.connect(path)
        .execute("SELECT run_name, experiment, key, last, last_kind, min, max, count FROM run_metrics ORDER BY key")
        .fetchall()
    )
    assert rows == [
        ("calm-otter-12", "demo", "inf", None, "inf", -1.5, None, 2),
        ("calm-otter-12", "demo", "nan", None, "nan", -1.5, -1.5, 2),
        ("calm-otter-12", "demo", "ninf", None, "-inf", None, -1.5, 2),
        ("calm-otter-12", "demo", "plain", 0.25, "finite", -1.5, 0.25, 2),
    ]


def test_only_the_owner_may_read(path: Path, backend: Backend) -> None:
    """The file and its companions are 0600, whatever the umask allows."""
    write(backend, Journal().batch(started()))
    files = list(path.parent.glob("looptap.db*"))
    assert len(files) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


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
