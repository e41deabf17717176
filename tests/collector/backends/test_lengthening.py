"""What merging makes of old windows, looked at in the file: damage, killed processes, programs that serve for long."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from collector.backends.killing import run_until_killed
from looptap.events import RunEnded
from looptap_collector import embedded
from looptap_collector.backend import Backend, MergedWindows
from looptap_collector.backends.checking import check
from looptap_collector.backends.copying import copy_run
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.embedded import Embedded, open_backend
from looptap_collector.testing.batches import Journal, started
from looptap_collector.testing.contracts.long_windows import (
    ago,
    all_told,
    assert_told_alike,
    deliver,
    each_ten_seconds,
    lengths,
    served,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "looptap.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqliteBackend]:
    opened = SqliteBackend(path)
    yield opened
    opened.close()


MERGER = """
import sys
from pathlib import Path
from collector.backends.killing import die_before
from looptap_collector.backends.sqlite import SqliteBackend

backend = SqliteBackend(Path(sys.argv[1]))
die_before(int(sys.argv[2]), backend)
backend.merge_windows()
"""


def test_killed_in_the_middle(path: Path, backend: SqliteBackend) -> None:
    """A process that merges dies before each of the statements of its first stretches: everything is told as before each time, and
    another one completes."""
    deliver(backend, Journal(), each_ten_seconds(ago(3), 600))
    before = all_told(backend)
    sizes = []
    for statement in range(3, 16):
        run_until_killed(MERGER, str(path), str(statement))
        assert_told_alike(backend, before)
        assert sum(lengths(backend)) == 600
        assert set(lengths(backend)) <= {1, 60}
        sizes.append(len(lengths(backend)))
    assert len(set(sizes)) > 3, "some died before the end of a transaction, and some behind it"
    assert max(sizes) == 600
    backend.merge_windows()
    assert lengths(backend) == [60] * 10
    assert_told_alike(backend, before)


def test_damaged_windows(path: Path, backend: SqliteBackend) -> None:
    """Stay as they are, whether the whole of one cannot be read or one of its sketches; the others are merged."""
    told = each_ten_seconds(ago(3), 10)
    deliver(backend, Journal(), told[:9])
    deliver(backend, Journal("j2", "r2"), [served(ago(3), latency={"total": b"no histogram"})])
    with closing(sqlite3.connect(path, isolation_level=None)) as spoiler:
        spoiler.execute(f"UPDATE serving_window SET told = x'c1' WHERE time_ns = {told[4].time_ns}")
    assert backend.merge_windows() == MergedWindows(8, 1, damaged=2)
    assert backend.merge_windows() == MergedWindows(damaged=2)


def test_a_merged_store_fits_together(tmp_path: Path, backend: SqliteBackend) -> None:
    """Nothing is wrong with it, and a copy is equal, also where there was one from before."""
    deliver(backend, Journal(), each_ten_seconds(ago(3), 100) + each_ten_seconds(ago(15), 100))
    copy = SqliteBackend(tmp_path / "copy.db")
    for expected in ([1] * 200, [100, 60, 40]):
        copied = copy_run(backend, copy, "r1")
        assert copied is not None
        assert copied.is_equal
        assert lengths(copy) == lengths(backend) == expected
        backend.merge_windows()
    assert list(check(backend)) == list(check(copy)) == []
    assert copy.merge_windows() == MergedWindows()
    copy.close()


def test_a_program_that_serves_for_months(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own store merges what has become old, some of it each time as long as there is much."""
    monkeypatch.setattr(embedded, "_MERGED_WITHIN_SECONDS", 0.01)
    monkeypatch.setattr(embedded, "_BETWEEN_SECONDS", 0.0)
    old = each_ten_seconds(ago(3), 240)
    store, journal = Embedded(tmp_path), Journal()
    store.deliver(journal.batch(started(kind="serving"), *old))
    reader: Backend = open_backend(tmp_path, create=False)
    sizes = [len(lengths(reader))]
    for number in range(10):
        store.deliver(journal.batch(served(ago(0) + number)))
        sizes.append(len(lengths(reader)))
    assert sizes[0] > 4, "it took several times"
    assert sizes[-1] == 4 + 10
    young = each_ten_seconds(ago(3), 240, model="other")
    store.deliver(journal.batch(*young, RunEnded("finished", 1)))
    assert len(lengths(reader)) == sizes[-1] + 240, "for a while there is nothing to do"
    store.close()
    reader.close()


def test_a_training_in_an_embedded_store(tmp_path: Path) -> None:
    """Merges nothing, as it serves nothing."""
    with closing(open_backend(tmp_path, create=True)) as backend:
        deliver(backend, Journal(), each_ten_seconds(ago(3), 60))
        store = Embedded(tmp_path)
        store.deliver(Journal("other", "other").batch(started("other"), RunEnded("finished", 1)))
        store.close()
        assert lengths(backend) == [1] * 60
