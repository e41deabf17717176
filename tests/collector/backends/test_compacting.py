"""What compaction makes of chunks, looked at in the file: plans, damage, killed processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.backends.killing import run_until_killed
from looptap.events import RunEnded
from looptap_collector.backend import Backend, Compaction
from looptap_collector.backends.compacting import Part, groups
from looptap_collector.backends.outlines import LONG_POINTS
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.chunks import MAX_POINTS, DamagedChunk
from looptap_collector.embedded import DATABASE, Embedded
from looptap_collector.testing.batches import Journal, points, started, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "looptap.db"


@pytest.fixture
def backend(path: Path) -> Iterator[Backend]:
    opened = SqliteBackend(path)
    yield opened
    opened.close()


def tell(backend: Backend, *sizes: int, run: str = "r1") -> Journal:
    """The series ``x`` in batches of these sizes; each value is its step."""
    journal = Journal(f"j-{run}", run)
    write(backend, journal.batch(started(run)))
    start = 0
    for size in sizes:
        steps = np.arange(start, start + size)
        write(backend, journal.batch(series=[points("x", steps, steps * 1.0)]))
        start += size
    return journal


def spoil(path: Path, table: str, where: str = "1") -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as spoiler:
        assert spoiler.execute(f"UPDATE {table} SET data = x'0102' WHERE {where}").rowcount > 0


def parts(path: Path) -> list[tuple[int, int, bool]]:
    """Number and size of each chunk, and whether it has an outline."""
    with closing(sqlite3.connect(path)) as reader:
        return [
            (part, count, bool(outlined))
            for part, count, outlined in reader.execute(
                "SELECT part, count, (part, series_id) IN (SELECT part, series_id FROM outline) FROM chunk "
                "ORDER BY series_id, part"
            )
        ]


@given(st.lists(st.integers(1, MAX_POINTS), max_size=60))
def test_a_plan_is_carried_out_once(sizes: list[int]) -> None:
    """Groups are neighbours that fit into one chunk; when each has become one, with its outline, nothing is left to do."""
    before = [Part(number, size, False) for number, size in enumerate(sizes)]
    planned = groups(before)
    successors = {}
    for group in planned:
        count = sum(part.count for part in group)
        assert count <= MAX_POINTS
        assert [part.part for part in group] == list(range(group[0].part, group[0].part + len(group)))
        successors[group[0].part] = Part(group[0].part, count, count >= LONG_POINTS)
    replaced = {part.part for group in planned for part in group}
    after = [successors.get(part.part, part) for part in before if part.part in successors or part.part not in replaced]
    assert sum(part.count for part in after) == sum(sizes)
    assert groups(after) == []


def test_long_chunks_are_made_of_full_ones(path: Path, backend: Backend) -> None:
    """Neighbours become one chunk of up to 65,536 points; the small ones at the end stay for what comes."""
    tell(backend, *[3_000] * 30, 40_000, 100)
    done = backend.compact()
    assert done == Compaction(series=1, merged=30, made=2, points=90_000, outlines=3)
    assert parts(path) == [(0, 63_000, True), (21, 27_000, True), (30, 40_000, True), (31, 100, False)]


def test_a_chart_needs_no_chunk_that_has_an_outline(path: Path, backend: Backend) -> None:
    """Where outlines are fine enough only they are read; a damaged outline is made good by its chunk."""
    tell(backend, *[3_000] * 60)
    exact = backend.history("r1", "x", {})
    backend.compact()
    spoil(path, "outline", "part = 0")
    chart = backend.chart("r1", "x", {}, points=200)
    assert (chart.steps[0], chart.steps[-1]) == (0, 179_999)
    assert np.array_equal(backend.history("r1", "x", {}).values, exact.values)
    spoil(path, "chunk", "part > 0")
    again = backend.chart("r1", "x", {}, points=200)
    assert again.steps.tolist() == chart.steps.tolist()
    inside = backend.chart("r1", "x", {}, points=200, steps=(0, 62_000))
    assert inside.steps[-1] == 62_000
    with pytest.raises(DamagedChunk):
        backend.chart("r1", "x", {}, points=2_000)


def test_points_of_a_chart_are_spread_as_those_of_the_series(backend: Backend) -> None:
    """A part of the series that is not compacted yet takes no more of the chart than its share."""
    journal = tell(backend, *[3_000] * 80)
    backend.compact()
    for start in range(240_000, 480_000, 3_000):
        steps = np.arange(start, start + 3_000)
        write(backend, journal.batch(series=[points("x", steps, steps * 1.0)]))
    chart = backend.chart("r1", "x", {}, points=2_000)
    assert len(chart.steps) > 1_000
    assert 0.4 < np.mean(chart.steps < 240_000) < 0.6
    assert np.diff(chart.steps).max() < 480_000 / len(chart.steps) * 4


def test_a_damaged_chunk_stays_between_its_neighbours(path: Path, backend: Backend) -> None:
    """What cannot be read is left as it is and counted; those before and behind it are merged among themselves."""
    tell(backend, *[3_000] * 9)
    spoil(path, "chunk", "part = 4")
    done = backend.compact()
    assert (done.merged, done.made, done.damaged) == (8, 2, 1)
    assert parts(path) == [(0, 12_000, True), (4, 3_000, False), (5, 12_000, True)]
    again = backend.compact()
    assert (again.has_changed, again.damaged) == (False, 1)
    assert len(backend.history("r1", "x", {}, steps=(0, 11_999)).steps) == 12_000
    with pytest.raises(DamagedChunk):
        backend.history("r1", "x", {})


def test_a_chunk_of_another_length_than_its_row_says_is_damaged(path: Path, backend: Backend) -> None:
    """A contradiction is not merged away."""
    tell(backend, *[3_000] * 3)
    with closing(sqlite3.connect(path, isolation_level=None)) as spoiler:
        spoiler.execute("UPDATE chunk SET count = 2999 WHERE part = 2")
    assert backend.compact().damaged == 1
    assert parts(path) == [(0, 6_000, False), (2, 2_999, False)]


def test_the_end_of_a_run_compacts_it(tmp_path: Path) -> None:
    """In an embedded store, a series of several full chunks; one of fewer stays as it is."""
    store = Embedded(tmp_path)
    for run, count in (("many", 16), ("few", 2)):
        journal = Journal(run, run)
        store.deliver(journal.batch(started(run)))
        for turn in range(count):
            steps = np.arange(turn * 3_000, turn * 3_000 + 3_000)
            store.deliver(journal.batch(series=[points("x", steps, steps * 1.0)]))
        store.deliver(journal.batch(RunEnded("finished", 1)))
    store.close()
    assert parts(tmp_path / DATABASE) == [(0, 48_000, True), (0, 3_000, False), (1, 3_000, False)]


def test_a_file_gives_back_what_it_no_longer_needs(path: Path, backend: Backend) -> None:
    """After a run was deleted the file is as small as its content; the other run is unharmed, and writing goes on."""
    assert isinstance(backend, SqliteBackend)
    noise = np.random.default_rng(0).normal(size=60_000)
    write(backend, Journal("big", "big").batch(started("big"), series=[points("x", range(60_000), noise)]))
    journal = tell(backend, 3_000)
    kept = backend.history("r1", "x", {})
    assert backend.shrink() == 0, "nothing is free yet"
    before = path.stat().st_size
    backend.delete_run("big")
    assert backend.shrink() > 200_000
    assert path.stat().st_size < before / 2
    write(backend, journal.batch(series=[points("y", [1], [1.0])]))
    assert backend.history("r1", "x", {}).values.tobytes() == kept.values.tobytes()
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


COMPACTOR = """
import sys
from pathlib import Path
from collector.backends.killing import die_before
from looptap_collector.backends.sqlite import SqliteBackend

backend = SqliteBackend(Path(sys.argv[1]))
die_before(int(sys.argv[2]), backend)
backend.compact()
"""


def test_killed_compactions_leave_whole_chunks(path: Path, backend: Backend) -> None:
    """A process that compacts dies before 8 different statements: every point is there each time, and another one completes."""
    sizes = [3_000] * 400
    tell(backend, *sizes)
    exact = backend.history("r1", "x", {})
    chunks = []
    for statement in (5, 8, 10, 13, 17, 22, 29, 30):
        run_until_killed(COMPACTOR, str(path), str(statement))
        history = backend.history("r1", "x", {})
        assert history.steps.tobytes() == exact.steps.tobytes()
        assert history.values.tobytes() == exact.values.tobytes()
        found = parts(path)
        assert sum(count for _, count, _ in found) == sum(sizes)
        assert all(outlined == (count >= LONG_POINTS) for _, count, outlined in found)
        chunks.append(len(found))
    assert {(400 - count) % 20 for count in chunks} == {0}, "twenty-one become one, or stay"
    assert 400 in chunks, "some died before"
    assert min(chunks) < 400, "and some behind a transaction"
    backend.compact()
    assert backend.compact() == Compaction()
    assert [count for _, count, _ in parts(path)] == [63_000] * 19 + [3_000]
