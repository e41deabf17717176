"""Copies between stores on every engine: complete, proven equal, repeatable, and whole after any death."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from collector.backends.killing import run_until_killed
from collector.recorded import complete_run
from looptap.events import Alert, Artifact, Dataset, Note, Param, RunEnded, Tag
from looptap_collector.backend import Backend, TokenRow
from looptap_collector.backends.checking import check
from looptap_collector.backends.checksums import run_checksum
from looptap_collector.backends.copying import CannotCopy, Copied, copy_run, runs_to_copy
from looptap_collector.backends.sql import SqlBackend
from looptap_collector.stores import open_sql_store
from looptap_collector.testing.batches import Journal, points, started, write
from looptap_collector.testing.contracts.windows import full


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SqlBackend]:
    """Two runs with a bit of everything: owners, revisions, odd values, chunks of every length."""
    with opened(str(tmp_path / "source")) as store:
        fill(store)
        yield store


@contextmanager
def opened(address: str) -> Iterator[SqlBackend]:
    store = open_sql_store(address, create=True)
    try:
        yield store
    finally:
        store.close()


def fill(store: SqlBackend) -> Journal:
    """The run ``r1``, under way, and another one that has ended."""
    journal = Journal("j1", "r1")
    records = [
        *(Param("p", value, "u", 1) for value in (1, True, float("nan"), 2**70, "é 🦦", None)),
        *(Tag("t", value, 1) for value in ("a", "b")),
        *(Note("n", message, 1) for message in ("z", "a", "z")),
        *(Artifact(name, 1, 3, digest=digest * 64) for name, digest in (("b", "a"), ("a", "b"), ("b", "a"))),
        Artifact("gone", 1, 3, missing="deleted", role="input", step=3),
        Dataset("d", 1, fingerprint="f", algorithm="a", covers="c", schema={"x": [1, True, 2**70]}),
        *(Alert("a", "warning", "fired", "m", 1, "odd", value, step=3) for value in (float("nan"), -0.0, -0.0)),
        Dataset("d", 1, "test", missing="not made yet"),
        *(full(time_ns) for time_ns in (1, 2)),
    ]
    odd = [float("nan"), float("-inf"), -0.0, 5e-324]
    write(store, journal.batch(started("r1"), *records, series=[points("odd", range(4), odd, {"b": "1"})]), "ada")
    noise = np.random.default_rng(0)
    for turn in range(30):
        steps = noise.permutation(3_000) + turn * 2_000
        series = [points("long", steps, noise.normal(size=3_000)), points("few", [turn], [turn / 3])]
        write(store, journal.batch(series=series, dropped={"full": turn}, heartbeat_ns=turn + 1), "ada")
        if turn == 25:
            store.compact()
    complete_run(store, "calm-otter-12")
    store.add_token(TokenRow("id", "ada", "admin", "f" * 64, 1))
    return journal


def copy(source: SqlBackend, target: SqlBackend, *, merge: bool = False) -> list[Copied]:
    copied = [copy_run(source, target, run) for run in runs_to_copy(source, target, merge=merge)]
    return [one for one in copied if one is not None]


def seen(store: Backend, run: str) -> object:
    """All that a reader can see of a run, to the bit."""
    series = store.series([run])
    histories = [store.history(run, row.key, row.context) for row in series]
    return (
        store.run(run),
        repr(store.params(run, revisions=True)),
        store.tags(run),
        store.artifacts(run),
        store.delivery(run),
        msgspec.msgpack.encode(series),
        [(one.steps.tobytes(), one.times_ns.tobytes(), one.values.tobytes()) for one in histories],
        [store.chart(run, row.key, row.context, points=100).values.tobytes() for row in series],
    )


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mariadb"])
def test_a_copy_has_everything(engine: str, source: SqlBackend, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """From SQLite to each engine and back: all that can be seen is the same, the checksums are, a check finds nothing, and
    the run goes on in the copy under its owner. Tokens stay where they are."""
    middle = str(tmp_path / "middle") if engine == "sqlite" else request.getfixturevalue(f"{engine}_address")
    with opened(middle) as target, opened(str(tmp_path / "back")) as back:
        assert all(one.was == "nothing" and one.is_equal for one in copy(source, target))
        assert all(one.was == "nothing" and one.is_equal for one in copy(target, back))
        for store in (target, back):
            assert [row.run for row in store.runs()] == [row.run for row in source.runs()]
            for row in source.runs():
                assert seen(store, row.run) == seen(source, row.run)
            assert (list(check(store)), list(store.tokens())) == ([], [])
            assert list(store.referenced()) == list(source.referenced())
        again = copy(source, target)
        assert [(one.was, one.is_equal) for one in again] == [("the same", True)] * 2
        journal = Journal("j1", "r1")
        journal.next = source.position("j1")
        write(target, journal.batch(Tag("t", "c", 1), series=[points("long", [-1], [9.0])]), "ada")
        assert target.history("r1", "long", {}).values[0] == 9.0
        assert list(check(target)) == []


def test_what_the_source_has_since_then_is_brought_up_to_date(source: SqlBackend, tmp_path: Path) -> None:
    """A run that went on is replaced as a whole; one that has more in the target is left alone, in one line."""
    with opened(str(tmp_path / "target")) as target:
        copy(source, target)
        journal = Journal("j1", "r1")
        journal.next = source.position("j1")
        write(source, journal.batch(RunEnded("finished", 9), series=[points("long", [1], [1.0])]))
        assert {one.run: (one.was, one.is_equal) for one in copy(source, target)}["r1"] == ("less", True)
        assert seen(target, "r1") == seen(source, "r1")
        write(target, journal.batch(Tag("t", "late", 1)))
        before = seen(target, "r1")
        (refused,) = [one for one in copy(source, target) if not one.is_equal]
        assert (refused.run, refused.problem is not None) == ("r1", True)
        assert "does not have; it was left as it is" in str(refused.problem)
        assert seen(target, "r1") == before


def test_other_runs_are_not_mixed_up(source: SqlBackend, tmp_path: Path) -> None:
    """A store with runs of its own is refused unless they are to be merged; then they stay as they are."""
    with opened(str(tmp_path / "target")) as target:
        write(target, Journal("own", "own").batch(started("own"), Artifact("a", 1, 3, digest="a" * 64)))
        before = seen(target, "own")
        with pytest.raises(CannotCopy, match=r"1 runs that .* does not have; with --merge"):
            runs_to_copy(source, target, merge=False)
        assert all(one.is_equal for one in copy(source, target, merge=True))
        assert seen(target, "own") == before
        assert len(target.runs()) == 3


def test_a_journal_of_another_run_is_not_taken_over(source: SqlBackend, tmp_path: Path) -> None:
    """Two runs cannot share a journal in one store: the one that comes is refused, the other is unharmed."""
    with opened(str(tmp_path / "target")) as target:
        write(target, Journal("j1", "own").batch(started("own")))
        problems = {one.run: one.problem for one in copy(source, target, merge=True)}
        assert "journal 'j1' belongs to another run" in str(problems["r1"])
        assert target.run("r1") is None
        assert target.position("j1") == 1


def test_damage_is_told_and_the_others_are_copied(source: SqlBackend, tmp_path: Path) -> None:
    """A run with a chunk that cannot be read is not copied by half."""
    with closing(sqlite3.connect(source.place, isolation_level=None)) as spoiler:
        spoiler.execute("UPDATE chunk SET data = x'01' WHERE part = 27")
    with opened(str(tmp_path / "target")) as target:
        problems = {one.run: one.problem for one in copy(source, target)}
        assert "cannot be read" in str(problems.pop("r1"))
        assert list(problems.values()) == [None]
        assert [row.name for row in target.runs()] == ["calm-otter-12"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE run SET owner = 'eve' WHERE run = 'r1'",
        "UPDATE run SET experiment_id = (SELECT max(id) FROM experiment) WHERE run = 'r1'",
        "UPDATE param SET time_ns = 2 WHERE run = 'r1' AND revision = 0",
        "UPDATE tag SET value = 'B' WHERE run = 'r1'",
        "DELETE FROM note WHERE id = (SELECT min(id) FROM note)",
        "UPDATE note SET id = 99 WHERE id = (SELECT min(id) FROM note)",
        "UPDATE lineage SET step = 4 WHERE step = 3 AND run = 'r1'",
        "UPDATE run_dataset SET told = replace(told, 'x', 'y') WHERE role = 'train'",
        "UPDATE ledger SET dropped = '{}' WHERE run = 'r1'",
        "UPDATE series SET last = last + 1 WHERE key = 'few'",
        "UPDATE series SET context = '{}' WHERE key = 'odd'",
        "DELETE FROM chunk WHERE part = 29",
        "UPDATE chunk SET part = 100 - part WHERE part IN (28, 29)",
    ],
)
def test_a_checksum_sees_every_difference(source: SqlBackend, change: str) -> None:
    """Whatever is told of a run is in its checksum."""
    with source.snapshot() as connection:
        before = run_checksum(connection, "r1")
    with closing(sqlite3.connect(source.place, isolation_level=None)) as other:
        assert other.execute(change).rowcount > 0
    with source.snapshot() as connection:
        assert run_checksum(connection, "r1") != before


def test_a_checksum_does_not_see_how_points_are_kept(source: SqlBackend) -> None:
    """Compaction changes the chunks and not what they say."""
    with source.snapshot() as connection:
        before = run_checksum(connection, "r1")
    assert source.compact().made > 0
    with source.snapshot() as connection:
        assert run_checksum(connection, "r1") == before


COPIER = """
import sys
from collector.backends.killing import die_before
from collector.backends.test_copying import copy
from looptap_collector.stores import open_sql_store

source, target = (open_sql_store(address, create=True) for address in sys.argv[1:3])
die_before(int(sys.argv[3]), target)
copy(source, target)
"""


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_killed_copies_are_completed(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A process that copies dies before 6 different statements: each run is there as a whole or not at all, and the next copy
    goes on from there."""
    address = str(tmp_path / "source")
    target_address = str(tmp_path / "target") if engine == "sqlite" else request.getfixturevalue(f"{engine}_address")
    with opened(address) as source:
        noise = np.random.default_rng(1)
        for number in range(60):
            journal = Journal(f"j{number}", f"run-{number:02}")
            series = [points(key, range(9_000), noise.normal(size=9_000)) for key in "abcd"]
            write(source, journal.batch(started(journal.run), Tag("a", "b", 1), series=series))
    counts = []
    for statement in (4, 30, 31, 40, 57, 90):
        run_until_killed(COPIER, address, target_address, str(statement))
        with opened(target_address) as target:
            assert list(check(target)) == []
            counts.append(len(target.runs()))
            assert len(target.series([row.run for row in target.runs()])) == 4 * counts[-1]
    assert counts == sorted(counts)
    assert 0 < counts[-1] < 60
    with opened(address) as source, opened(target_address) as target:
        done = copy(source, target)
        assert all(one.is_equal for one in done)
        assert sum(one.was == "the same" for one in done) == counts[-1]
        assert len(target.runs()) == 60
