"""The contract on a real SQLite file, and how its tables are kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from collector.backends.patience import PatienceContract
from looptap.events import Artifact, Note, Param, RunEnded, Tag
from looptap_collector.backend import Arrival, Backend, Outcome
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.testing.backend import BackendContract, CompactionContract, LongWindowContract, TokenContract
from looptap_collector.testing.batches import START_NS, Journal, points, started, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "looptap.db"


@pytest.fixture
def open_another(path: Path) -> Callable[[], SqliteBackend]:
    return lambda: SqliteBackend(path, busy_seconds=30)


class TestContract(BackendContract):
    pass


class TestPatience(PatienceContract):
    pass


class TestTokens(TokenContract):
    pass


class TestCompaction(CompactionContract):
    pass


class TestLongWindows(LongWindowContract):
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
