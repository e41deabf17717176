"""A run without a sign of life for 50 seconds is lost, unless its journal is here; heard of again, it runs again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from looptap.events import Batch, RunEnded
from looptap_collector.backend import Backend
from looptap_collector.embedded import open_backend
from looptap_collector.liveness import mark_lost
from looptap_collector.testing.batches import START_NS, Journal, started, write

MINUTE = 60 * 10**9
SILENCE = 50 * 10**9


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    opened = open_backend(tmp_path / "store", create=True)
    yield opened
    opened.close()


def status(backend: Backend) -> str:
    row = backend.run("r1")
    assert row is not None
    return row.status


def test_lost_and_found(backend: Backend) -> None:
    """Silent for 50 seconds: lost. A journal on this machine, or less than that: not. A later heartbeat: running."""
    journal = Journal()
    write(backend, journal.batch(started(), heartbeat_ns=START_NS + MINUTE))
    assert mark_lost(backend, (), START_NS + MINUTE + SILENCE - 1) == []
    assert mark_lost(backend, {"r1"}, START_NS + 9 * MINUTE) == []
    assert status(backend) == "running"
    assert mark_lost(backend, (), START_NS + MINUTE + SILENCE + 1) == ["calm-otter-12"]
    assert status(backend) == "lost"
    write(
        backend,
        Batch(run="r1", journal="j1", first=journal.next, next=journal.next, heartbeat_ns=START_NS + 3 * MINUTE),
    )
    assert status(backend) == "running"


def test_the_runs_own_word_counts(backend: Backend) -> None:
    """A run that has ended is never lost, and one that was lost may still tell its end."""
    journal = Journal()
    write(backend, journal.batch(started()))
    assert mark_lost(backend, (), START_NS + 5 * MINUTE) == ["calm-otter-12"]
    write(backend, journal.batch(RunEnded("finished", START_NS + MINUTE)))
    assert status(backend) == "finished"
    assert mark_lost(backend, (), START_NS + 50 * MINUTE) == []
