"""What a server does by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
import pytest
from sqlalchemy import func, select

from collector.server.collectors import Collector
from looptap.events import RunEnded
from looptap_collector.backends import tables
from looptap_collector.server.upkeep import Chore, Upkeep
from looptap_collector.testing.batches import Journal, points, started
from looptap_collector.testing.contracts.long_windows import ago, each_ten_seconds, lengths


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_that_ended_is_compacted(collector: Collector) -> None:
    """Its long series become long chunks with an outline, by themselves, and hold the same points; a run under way is left."""
    for run in ("over", "under way"):
        journal = Journal(run, run)
        collector.send(journal.batch(started(run)))
        for turn in range(20):
            steps = np.arange(turn * 3_000, (turn + 1) * 3_000)
            collector.send(journal.batch(series=[points("loss", steps, steps / 7)]))
        if run == "over":
            collector.send(journal.batch(RunEnded("finished", 1_900_000_000_000_000_000)))

    def outlines() -> int:
        with collector.store.snapshot() as connection:
            return int(connection.execute(select(func.count()).select_from(tables.outline)).scalar_one())

    until(lambda: outlines() == 1)
    for run in ("over", "under way"):
        assert collector.store.history(run, "loss", {}).values.tolist() == (np.arange(60_000) / 7).tolist()
    with collector.store.snapshot() as connection:
        chunks = connection.execute(
            select(tables.series.c.run, func.count()).join(tables.chunk).group_by(tables.series.c.run)
        )
        assert dict(chunks.all()) == {"over": 1, "under way": 20}


def test_what_was_served_long_ago_is_merged(collector: Collector) -> None:
    """By itself, and told as before; a scrape of the collector counts each window once."""
    windows = each_ten_seconds(ago(3), 60)
    collector.send(Journal().batch(started(kind="serving"), *windows, RunEnded("finished", 1)))
    until(lambda: lengths(collector.store) == [60], seconds=100.0)  # the next time may be half a minute away
    assert sum(one.requests for one in collector.store.served()) == 180


def test_a_chore_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, tried again when it is due, and told again when it fails after it had worked."""
    done = []
    states = iter([True, True, False, True])

    def moody() -> None:
        done.append("moody")
        if next(states, False):
            raise OSError("away\nsecond line")

    upkeep = Upkeep([Chore("moody", 0.05, moody), Chore("steady", 0.05, lambda: done.append("steady"))])
    with caplog.at_level(logging.WARNING, "looptap.collector"):
        upkeep.start()
        until(lambda: done.count("moody") >= 6 and done.count("steady") >= 6)
        upkeep.stop()
    assert [record.message for record in caplog.records] == ["moody: OSError: away second line"] * 2
