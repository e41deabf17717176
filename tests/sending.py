"""Agents made of the real parts (recorder, journal, sender, HTTP sink), each in a process of its own, and what must come of them.

What an agent records follows from its number, so a store can be compared with it to the bit, without asking the agent::

    load = Load(1, points=10_000)
    told = Sending("http://127.0.0.1:8766", token, folder, load).result()
    assert verify(store, {load: told}) == Verdict(points=20_000)
"""

from __future__ import annotations

import dataclasses
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from looptap.events import RunEnded, RunStarted
from looptap.http_sink import HttpSink
from looptap.journal.folder import JournalMeta
from looptap.journal.frames import encode
from looptap.journal.writer import JournalWriter
from looptap.recorder import Recorder
from looptap.redaction import Redactor
from looptap.sender import Sender
from looptap.settings import Settings
from looptap_collector.backend import Backend

KEYS = ("loss", "accuracy")
START_NS = 1_800_000_000_000_000_000
#: Every so many points an agent looks at the clock.
_BLOCK = 500


class Load(msgspec.Struct, frozen=True):
    """``points`` of each series, spread over ``seconds``; delivered each ``interval`` seconds. ``notes`` of 60 kB go with them.
    ``until_told``: fewer, if it is told to end before. ``patience``: seconds for what is left at the end."""

    number: int
    points: int
    seconds: float = 0.0
    interval: float = 0.1
    request_seconds: float = 5.0
    notes: int = 0
    until_told: bool = False
    patience: float = 120.0

    @property
    def run(self) -> str:
        return f"agent-{self.number}"


class Told(msgspec.Struct, frozen=True):
    """What an agent says at its end. ``points`` of each series were recorded. ``grown_kib``: how much memory it took beyond what
    it had before the first record."""

    journal: str
    points: int
    emitted: int
    stored: int
    retries: int
    dropped: dict[str, int]
    delivered: bool
    grown_kib: int
    error: str | None


@dataclasses.dataclass
class Verdict:
    """Points by what became of them, over all series."""

    points: int = 0
    lost: int = 0
    duplicated: int = 0
    altered: int = 0


def values(load: Load) -> npt.NDArray[np.float64]:
    """One row for each step, one column for each key: noise in every bit, and what is hard to carry now and then."""
    dice = np.random.default_rng(load.number)
    found = dice.standard_normal((load.points, len(KEYS)))
    for odd in (np.nan, np.inf, -np.inf, -0.0, 5e-324):
        found[dice.integers(0, load.points, max(1, load.points // 1_000)), 0] = odd
    return found


class Sending:
    """One agent, from the start of its process to :meth:`result` or :meth:`close`."""

    def __init__(self, address: str, token: str, folder: Path, load: Load) -> None:
        self.load = load
        command = [sys.executable, __file__, address, str(folder), msgspec.json.encode(load).decode()]
        environment = {**os.environ, "LOOPTAP_TOKEN": token}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )

    def close(self) -> None:
        """Kill it if it lives."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def result(self) -> Told:
        """Tells it to end."""
        printed, complaints = self.process.communicate()
        assert self.process.returncode == 0, complaints.decode()
        return msgspec.json.decode(printed, type=Told)


def verify(store: Backend, loads: Mapping[Load, Told]) -> Verdict:
    """Every value of every agent, compared to the bit with what the store gives."""
    verdict = Verdict()
    for load, told in loads.items():
        expected = values(load)[: told.points]
        times_ns = START_NS + np.arange(told.points) * 1_000_000
        for column, key in enumerate(KEYS):
            verdict.points += told.points
            try:
                found = store.history(load.run, key, {})
            except KeyError:
                verdict.lost += told.points
                continue
            steps, first = np.unique(found.steps, return_index=True)
            known = (steps >= 0) & (steps < told.points)
            verdict.duplicated += len(found.steps) - len(steps)
            verdict.lost += told.points - int(known.sum())
            steps, first = steps[known], first[known]
            same = found.values[first].view(np.int64) == np.ascontiguousarray(expected[steps, column]).view(np.int64)
            verdict.altered += int((~known).sum() + (~(same & (found.times_ns[first] == times_ns[steps]))).sum())
    return verdict


def send(address: str, folder: Path, load: Load) -> Told:
    """Record and deliver, in this process."""
    meta = JournalMeta.of_this_process(load.run, load.run, address, True)
    writer = JournalWriter.create(folder / "journals", meta)
    writer.append(encode(RunStarted(load.run, load.run, "load", time.time_ns())))
    settings = Settings(token=os.environ["LOOPTAP_TOKEN"])
    sender = Sender(
        writer,
        load.run,
        lambda: HttpSink(address, settings, seconds=load.request_seconds),
        interval=load.interval,
    )
    recorder = Recorder(lambda: writer, Redactor())
    recorder.attach(writer)
    rows = values(load)
    notes = np.random.default_rng(load.number)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _memory_kib("VmRSS")
    began, recorded = time.monotonic(), 0
    sender.start()
    for first in range(0, load.points, _BLOCK):
        for step, row in enumerate(rows[first : first + _BLOCK].tolist(), first):
            recorder.metrics(dict(zip(KEYS, row, strict=True)), step, time_ns=START_NS + step * 1_000_000)
        done = min(1.0, (first + _BLOCK) / load.points)
        for number in range(int(first / load.points * load.notes), int(done * load.notes)):
            recorder.note(f"note {number}", notes.bytes(30_000).hex())
        recorded = min(load.points, first + _BLOCK)
        if load.until_told and select.select([sys.stdin], [], [], 0)[0]:
            break
        time.sleep(max(0.0, began + load.seconds * done - time.monotonic()))
    writer.append(encode(RunEnded("finished", time.time_ns())))
    delivered = sender.stop(load.patience)
    state = sender.state()
    return Told(
        writer.journal,
        recorded,
        writer.position,
        state.stored,
        state.retries,
        writer.dropped,
        delivered,
        _memory_kib("VmHWM") - before,
        state.error,
    )


def _memory_kib(which: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1])
    raise RuntimeError(f"the kernel does not tell {which}")


if __name__ == "__main__":
    sys.stdout.buffer.write(
        msgspec.json.encode(send(sys.argv[1], Path(sys.argv[2]), msgspec.json.decode(sys.argv[3], type=Load)))
    )
