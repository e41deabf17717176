"""What a check finds in a store that somebody or something has spoiled, and that it finds nothing in a good one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from collector.recorded import complete_run
from looptap.events import Artifact, Dataset, Note, Param
from looptap_collector.artifacts import LocalArtifacts
from looptap_collector.backends.checking import Problem, check
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.testing.batches import Journal, points, started, write
from looptap_collector.testing.contracts.windows import full


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "looptap.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqliteBackend]:
    """Small and long chunks, odd values, steps out of order, a series that is compacted and went on."""
    opened = SqliteBackend(path)
    journal = Journal("j1", "r1")
    records = [Param("p", 1, "u", 1), Param("p", 2, "u", 2), Note("n", "m", 1), Artifact("a", 1, 1, digest="ab" * 32)]
    records += [Dataset("d", 1, fingerprint="f", algorithm="a", covers="c"), Dataset("e", 1), full()]
    write(opened, journal.batch(started("r1"), *records, series=[points("odd", [3, 1, 2], [float("nan"), -0.0, 0.0])]))
    random = np.random.default_rng(0)
    for turn in range(6):
        steps = np.arange(turn * 3_000, turn * 3_000 + 3_000)
        random.shuffle(steps)
        series = [points("long", steps, random.normal(size=3_000)), points("few", [turn], [float("inf")])]
        write(opened, journal.batch(series=series))
        if turn == 4:
            assert opened.compact().outlines == 1
    complete_run(opened, "calm-otter-12")
    yield opened
    opened.close()


def spoil(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as spoiler:
        assert spoiler.execute(statement).rowcount > 0


def found(backend: SqliteBackend) -> list[Problem]:
    return list(check(backend))


def test_nothing_is_wrong_with_a_good_store(backend: SqliteBackend) -> None:
    """Whatever mix of chunks and values: no false alarm; progress is told up to the end."""
    told: list[tuple[int, int]] = []
    assert list(check(backend, progress=lambda done, of: told.append((done, of)))) == []
    assert told == [(0, 2), (1, 2), (2, 2)]


LONG = "series_id = (SELECT id FROM series WHERE key = 'long')"


@pytest.mark.parametrize(
    ("statement", "where", "what"),
    [
        (
            f"UPDATE chunk SET data = x'0102' WHERE {LONG} AND part = 0",
            "series long {}, chunk 0",
            "does not decompress",
        ),
        (f"UPDATE chunk SET count = count + 1 WHERE {LONG} AND part = 0", "chunk 0 (steps 0 to 14999)", "its count is"),
        (f"UPDATE chunk SET nan_count = 7 WHERE {LONG} AND part = 0", "chunk 0", "its nan_count is 0, and it says 7"),
        (f"UPDATE chunk SET min = min - 1 WHERE {LONG} AND part = 0", "chunk 0", "its min is"),
        (f"UPDATE chunk SET max = NULL WHERE {LONG} AND part = 0", "chunk 0", "and it says None"),
        (
            f"UPDATE chunk SET first_step = -1 WHERE {LONG} AND part = 0",
            "chunk 0",
            "its first_step is 0, and it says -1",
        ),
        (
            f"UPDATE chunk SET last_step = 9 WHERE {LONG} AND part = 0",
            "chunk 0",
            "its last_step is 14999, and it says 9",
        ),
        (f"DELETE FROM chunk WHERE {LONG} AND part = 0", "series long", "its count is 3000, and it says 18000"),
        (f"DELETE FROM chunk WHERE {LONG}", "series long", "18000 points and no chunk"),
        ("DELETE FROM chunk WHERE part = 3", "series few", "small chunks at its end"),
        ("UPDATE series SET count = 17 WHERE key = 'long'", "series long", "its count is 18000, and it says 17"),
        ("UPDATE series SET last = 5 WHERE key = 'long'", "series long", "its last is"),
        ("UPDATE series SET last_time_ns = 5 WHERE key = 'long'", "series long", "its last_time_ns is"),
        ("UPDATE series SET tail_points = 5 WHERE key = 'few'", "series few", "and says 5 in chunks"),
        ("UPDATE series SET next_part = 1 WHERE key = 'few'", "series few {}, chunk 1", "its chunks end before 1"),
        ("UPDATE series SET context = '{' WHERE key = 'few'", "series few", "its context cannot be read"),
        ("UPDATE outline SET data = x'0102'", "its outline", "does not decompress"),
        (f"UPDATE outline SET data = (SELECT data FROM chunk WHERE {LONG} AND part = 5)", "outline", "of other points"),
        (f"UPDATE chunk SET part = 99 WHERE {LONG} AND part = 0", "table outline", "of chunks that are not there"),
        ("UPDATE ledger SET stored = next + 1 WHERE journal = 'j1'", "journal j1", "records stored of"),
        ("UPDATE ledger SET stored = 5 WHERE journal = 'j1'", "run r1", "5 stored records, but there are 18009 points"),
        ("UPDATE ledger SET first = next + 1 WHERE journal = 'j1'", "journal j1", "behind its end"),
        ("UPDATE ledger SET dropped = 'x' WHERE journal = 'j1'", "journal j1", "count of drops cannot be read"),
        ("UPDATE param SET is_current = 1 WHERE run = 'r1'", "run r1", "revisions of param 'p' is marked"),
        ("UPDATE run_dataset SET told = '{' WHERE name = 'd'", "run r1", "what was told of it cannot be read"),
        ("UPDATE run_dataset SET version = NULL WHERE name = 'd'", "dataset d (train)", "is of another one"),
        ("DELETE FROM dataset_version", "table run_dataset", "refer to a dataset_version"),
        ("DELETE FROM dataset WHERE name = 'e'", "table run_dataset", "refer to a dataset"),
        ("UPDATE param SET value = '{' WHERE run = 'r1'", "run r1", "param 'p' is no JSON"),
        ("UPDATE run SET identity = '{}' WHERE run = 'r1'", "run r1", "its identity cannot be read"),
        ("UPDATE serving_window SET told = x'0102'", "window of intent at 1", "what was told of it cannot be read"),
        ("UPDATE serving_window SET requests = 8", "window of intent at 1", "what was told is of another one"),
        ("DELETE FROM series WHERE key = 'long'", "table chunk", "2 rows refer to a series that is not there"),
        ("DELETE FROM run WHERE run = 'r1'", "table note", "1 rows refer to a run that is not there"),
        (f"DELETE FROM artifact WHERE digest = '{'ab' * 32}'", "table lineage", "refer to a artifact"),
    ],
)
def test_each_kind_of_damage_is_found(
    path: Path, backend: SqliteBackend, statement: str, where: str, what: str
) -> None:
    """One line says where and what."""
    spoil(path, statement)
    problems = found(backend)
    assert any(where in problem.where and what in problem.what for problem in problems), problems
    assert all(problem.mend for problem in problems)


def test_damage_of_one_series_hides_no_other(path: Path, backend: SqliteBackend) -> None:
    """All problems are told, not only the first."""
    spoil(path, "UPDATE chunk SET data = x'0102' WHERE part IN (0, 5)")
    assert sum("decompress" in problem.what for problem in found(backend)) == 5 + 3, "of r1, and of the other run"


def test_files_are_looked_for_and_read(tmp_path: Path, backend: SqliteBackend) -> None:
    """A file that is not there is told; one with other content only when contents are asked for."""
    artifacts = LocalArtifacts(tmp_path / "artifacts")
    (problem,) = check(backend, artifacts)
    assert (problem.where, problem.what) == (f"artifact {'ab' * 32}", "its content is not there")
    place = tmp_path / "artifacts" / "ab" / "ab"
    place.mkdir(parents=True)
    (place / ("ab" * 32)).write_bytes(b"something else")
    assert list(check(backend, artifacts)) == []
    (problem,) = check(backend, artifacts, content=True)
    assert "other content" in problem.what


def test_damage_of_the_file_is_found(path: Path, backend: SqliteBackend) -> None:
    """The engine's own check is part of it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as spoiler:
        spoiler.execute("PRAGMA writable_schema = ON")
        spoiler.execute(
            "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'tag') "
            "WHERE name = 'note_by_run'"
        )
    other = SqliteBackend(path)
    assert any(problem.where == str(path) for problem in found(other))
    other.close()
