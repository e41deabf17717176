"""Runs as an agent would have delivered them, written into a real store for the tests of everything that
reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from looptap.events import (
    Alert,
    Artifact,
    Batch,
    Context,
    Environment,
    Note,
    Param,
    RunEnded,
    RunStarted,
    SeriesPoints,
    Tag,
)
from looptap_collector.backend import Backend
from looptap_collector.embedded import open_backend
from looptap_collector.testing.batches import write

#: 2026-01-02 03:04:05 UTC
START_NS = 1_767_323_045_000_000_000
SECOND = 1_000_000_000

HOSTILE = "<img src=x onerror=alert(1)><script>alert(1)</script>"


class Recording:
    """One run of one journal; every call delivers one batch."""

    def __init__(
        self,
        backend: Backend,
        name: str,
        *,
        run: str | None = None,
        experiment: str = "default",
        start_ns: int = START_NS,
        **identity: Any,
    ) -> None:
        self.backend = backend
        self.run = run or f"run-{name}"
        self.journal = f"journal-{self.run}"
        self.next = 0
        self.start_ns = start_ns
        self.deliver(RunStarted(run=self.run, name=name, experiment=experiment, time_ns=start_ns, **identity))

    def deliver(self, *records: Any, series: Sequence[SeriesPoints] = (), **batch: Any) -> None:
        first = batch.pop("first", self.next)
        count = len(records) + sum(len(points) for points in series)
        after = batch.pop("next", first + count)
        write(
            self.backend,
            Batch(
                run=self.run,
                journal=self.journal,
                first=first,
                next=after,
                records=records,
                series=tuple(series),
                heartbeat_ns=self.start_ns + SECOND,
                **batch,
            ),
        )
        self.next = after

    def points(
        self,
        key: str,
        values: Sequence[float],
        *,
        first_step: int = 0,
        context: Context | None = None,
        **batch: Any,
    ) -> None:
        """One value per step, a millisecond apart."""
        steps = np.arange(first_step, first_step + len(values), dtype="<i8")
        times = self.start_ns + steps * 1_000_000
        self.deliver(
            series=[
                SeriesPoints(
                    key,
                    context or {},
                    steps.tobytes(),
                    times.astype("<i8").tobytes(),
                    np.asarray(values, "<f8").tobytes(),
                )
            ],
            **batch,
        )

    def params(self, values: Mapping[str, Any], source: str = "argparse") -> None:
        self.deliver(*(Param(key, value, source, self.start_ns) for key, value in values.items()))

    def tag(self, key: str, value: str) -> None:
        self.deliver(Tag(key, value, self.start_ns))

    def note(self, topic: str, message: str) -> None:
        self.deliver(Note(topic, message, self.start_ns))

    def alert(self, kind: str, state: str = "fired", *, after_seconds: float = 0.0, **fields: Any) -> None:
        known: dict[str, Any] = {"severity": "warning", "message": "no step for 75 s"} | fields
        self.deliver(Alert(kind=kind, state=state, time_ns=self.start_ns + round(after_seconds * SECOND), **known))

    def artifact(self, name: str, **fields: Any) -> None:
        known: dict[str, Any] = {"size_bytes": 2048, "digest": "ab" * 32} | fields
        self.deliver(Artifact(name=name, time_ns=self.start_ns, **known))

    def environment(self, **fields: Any) -> None:
        self.deliver(Environment(time_ns=self.start_ns, **fields))

    def end(self, status: str = "finished", *, after_seconds: float = 12.5, error: str | None = None) -> None:
        self.deliver(RunEnded(status, self.start_ns + round(after_seconds * SECOND), error))


def new_store(folder: Path) -> Backend:
    return open_backend(folder, create=True)


def complete_run(backend: Backend, name: str = "calm-otter-12", **given: Any) -> Recording:
    """A finished run with a bit of everything."""
    recording = Recording(
        backend,
        name,
        script="/home/ada/digits/train.py",
        command=("python", "train.py", "--lr", "0.001"),
        working_directory="/home/ada/digits",
        host="box",
        user="ada",
        pid=4711,
        python="3.12.4",
        **given,
    )
    recording.environment(
        git_commit="0123456789abcdef0123456789abcdef01234567",
        git_branch="main",
        git_dirty=True,
        git_remote="https://example.org/ada/digits.git",
        platform="Linux-6.1-x86_64",
        packages={"torch": "2.13.0", "numpy": "2.3.1"},
        variables={"CUDA_VISIBLE_DEVICES": "0"},
    )
    recording.params({"lr": 1e-3, "epochs": 3, "seed": 2**63 + 1, "optimizer": "AdamW", "betas": [0.9, 0.999]})
    loss = (2.3 * np.exp(-np.arange(500) / 120) + 0.05 * np.cos(np.arange(500))).tolist()
    recording.points("loss", loss)
    recording.points("lr", [1e-3] * 500, context={"group": "0"})
    recording.points("lr", [1e-4] * 500, context={"group": "1"})
    recording.artifact("model.pt", kind="model", path="/home/ada/digits/model.pt")
    recording.tag("team", "vision")
    recording.note("torch", "torch.compile hides the forward pass from us")
    recording.end()
    return recording
