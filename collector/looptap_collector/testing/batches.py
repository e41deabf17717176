"""Batches as the sender makes them, for the tests of everything that takes them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from looptap.events import Batch, Context, RunStarted, SeriesPoints
from looptap_collector.backend import Arrival, Backend, History, Outcome, Rejected

START_NS = 1_800_000_000_000_000_000


def started(run: str = "r1", *, name: str = "calm-otter-12", experiment: str = "demo", **more: Any) -> RunStarted:
    return RunStarted(run=run, name=name, experiment=experiment, time_ns=more.pop("time_ns", START_NS), **more)


def points(
    key: str,
    steps: Sequence[int] | npt.NDArray[Any],
    values: Sequence[float] | npt.NDArray[Any],
    context: Context | None = None,
) -> SeriesPoints:
    """Points a millisecond apart, each time told by its step."""
    columns = np.asarray(steps, "<i8")
    times_ns = columns * 1_000_000 + START_NS
    return SeriesPoints(key, context or {}, columns.tobytes(), times_ns.tobytes(), np.asarray(values, "<f8").tobytes())


class Journal:
    """Numbers what it makes, as an agent does."""

    def __init__(self, journal: str = "j1", run: str = "r1") -> None:
        self.journal = journal
        self.run = run
        self.next = 0

    def batch(self, *records: Any, series: Sequence[SeriesPoints] = (), lost: int = 0, **more: Any) -> Batch:
        """The next batch; ``lost`` records before it never arrive."""
        first = self.next + lost
        self.next = first + len(records) + sum(len(columns) for columns in series)
        return Batch(
            run=self.run,
            journal=self.journal,
            first=first,
            next=self.next,
            series=tuple(series),
            records=tuple(records),
            **more,
        )


def write(backend: Backend, batch: Batch, owner: str | None = None) -> Outcome:
    """One batch, alone. Raises what the backend answers where that is a refusal."""
    (answer,) = backend.write([Arrival(batch, owner)])
    if isinstance(answer, Rejected):
        raise answer
    return answer


def same_bits(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Equal to the last bit, so that NaN equals NaN of the same payload and 0.0 differs from -0.0."""
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def told(history: History) -> Mapping[str, list[Any]]:
    """A history as lists, for plain comparison."""
    return {"steps": history.steps.tolist(), "values": history.values.tolist()}
