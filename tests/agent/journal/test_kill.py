"""SIGKILL at random instants: a record whose append has returned is never lost, and none appears twice (case 17)."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.journal.scenes import Store, assert_conserved, contents, new_writer, point, put
from looptap.adoption import deliver_abandoned
from looptap.events import Points, RunEnded
from looptap.journal.folder import find_journals


def _train(root: Path, acknowledge: int) -> None:
    """Never returns: records, in cells and now and then in a frame, and tells each step through the pipe once that has
    returned."""
    writer = new_writer(root, segment_bytes=30_000)
    step = 0
    while True:
        if step % 100 == 70:
            writer.append(point(step))
        else:
            put(writer, step)
        os.write(acknowledge, step.to_bytes(8, "little"))
        step += 1


def _killed_run(root: Path, after_seconds: float) -> list[int]:
    """The steps that the process had acknowledged when it was killed."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            _train(root, write_end)
        finally:
            os._exit(1)
    os.close(write_end)
    told = bytearray(os.read(read_end, 8))  # the first step: it is under way
    killer = time.monotonic() + after_seconds
    os.set_blocking(read_end, False)
    is_alive = True
    while True:
        if is_alive and time.monotonic() >= killer:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.set_blocking(read_end, True)
            is_alive = False
        try:
            data = os.read(read_end, 65_536)
        except BlockingIOError:
            continue
        if not data:
            break
        told += data
    os.close(read_end)
    return [int.from_bytes(told[at : at + 8], "little") for at in range(0, len(told) - 7, 8)]


@pytest.mark.timeout(600)
def test_killed_process_loses_nothing(tmp_path: Path, times: Callable[[int], int]) -> None:
    """500 kills: every acknowledged record is in the journal once, in order; adoption stores all of it, and ends the run as
    killed."""
    dice = random.Random(17)
    for _ in range(times(500)):
        root = tmp_path / "journal"
        acknowledged = _killed_run(root, dice.uniform(0.0, 0.04))
        assert acknowledged == list(range(len(acknowledged)))
        (folder,) = find_journals(root)
        found = [record.step for _, _, record in contents(folder) if isinstance(record, Points)]
        # At most the append under way when the signal came may be there without having been acknowledged.
        assert found in (acknowledged, [*acknowledged, len(acknowledged)])
        store = Store()
        summary = deliver_abandoned(root, lambda address, store=store: store)  # type: ignore[misc]
        assert summary.kept == {}
        assert store.steps() == found
        assert isinstance(store.records[-1], RunEnded)
        assert store.records[-1].status == "killed"
        assert find_journals(root) == []
        assert_conserved(len(found) + 2, store, folder.name)
