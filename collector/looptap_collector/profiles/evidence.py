"""What was recorded of one run, as the rules ask for it. Everything is read once, and only when a rule wants it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from looptap_collector.backend import Backend, History, RunRow, SeriesRow
from looptap_collector.profiles.samples import MIN_SAMPLES, clean
from looptap_collector.profiles.steps import PHASES, Steps, steps_of
from looptap_collector.slowest import added_up, last_of_each, rank_of

#: Of longer series, stretches from all over the run are read: that is enough for a mean, and a page should come at once.
MOST_POINTS = 200_000
_STRETCHES = 20
#: Fewer steps say nothing about a training.
MIN_STEPS = 10

_GPU = re.compile(r"system\.gpu\.(\d{1,4})\.")


class NotRecorded(Exception):
    """A rule cannot judge; the message is what it lacks, in a few words."""


class Evidence:
    def __init__(self, backend: Backend, run: RunRow) -> None:
        self.backend = backend
        self.run = run
        self.params = {row.key: row.value for row in backend.params(run.run)}
        self.series = list(backend.series([run.run]))
        self._of_ranks: dict[str, dict[int, SeriesRow]] = {}
        for row in self.series:
            if (rank := rank_of(row)) is not None:
                self._of_ranks.setdefault(row.key, {})[rank] = row

    # Settings

    def number(self, *keys: str) -> float | None:
        """The first of these params that is a number."""
        for key in keys:
            value = self.params.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
        return None

    @property
    def is_keras(self) -> bool:
        """Whether Keras made the steps: it has other ways to mend what the rules find."""
        return "keras.version" in self.params

    @property
    def batch_size(self) -> float | None:
        """Samples that one process takes at once."""
        return self.number("data.batch_size", "fit.batch_size")

    # Steps

    @cached_property
    def steps(self) -> list[Steps]:
        """Of each rank that tells the time of its steps; empty where none does."""
        by_rank = self._times("step_time")
        by_phase = {name: self._times(f"time.{name}") for name in PHASES}
        most = max(2_000, MOST_POINTS // max(1, sum(map(len, by_rank.values()))))
        found = []
        for rank, whole in sorted(by_rank.items()):
            stretches = list(_stretches(whole, most))
            phases = {name: self._sum(rows[rank], stretches) for name, rows in by_phase.items() if rank in rows}
            steps = steps_of(rank, self._sum(whole, stretches), phases)
            if len(steps):
                found.append(steps)
        return found

    def timed(self, phase: str | None = None) -> list[Steps]:
        """The steps of each rank, enough of them and with this phase. Raises :class:`NotRecorded`."""
        if not self.steps:
            raise NotRecorded("step_time")
        if phase is not None and not any(phase in steps.phases for steps in self.steps):
            raise NotRecorded(f"time.{phase}")
        found = [steps for steps in self.steps if phase is None or phase in steps.phases]
        found = [steps for steps in found if len(steps) >= MIN_STEPS]
        if not found:
            raise NotRecorded(f"{MIN_STEPS} timed steps, not {max(map(len, self.steps))}")
        return found

    @cached_property
    def window(self) -> tuple[int, int] | None:
        """From the begin of the first step to the end of the last one, in ns; None without steps. What the machine did before and
        after says nothing about the training."""
        spans = [
            (int(steps.times_ns.min()) - round(float(steps.seconds[0]) * 1e9), int(steps.times_ns.max()))
            for steps in self.steps
        ]
        return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None

    # Samples

    def samples(self, key: str, at_least: int = MIN_SAMPLES) -> dict[int, History]:
        """By rank, the finite samples during the training. Raises :class:`NotRecorded` where no rank has enough of them."""
        found = {rank: self._samples(row) for rank, row in self._rows(key)}
        enough = {rank: samples for rank, samples in found.items() if len(samples.values) >= at_least}
        if not enough:
            most = max((len(samples.values) for samples in found.values()), default=0)
            raise NotRecorded(f"{at_least} samples of {key}, not {most}" if found else key)
        return enough

    def whole(self, key: str) -> dict[int, History]:
        """By rank, the finite samples of all of the run; a rank without any has none."""
        return {rank: clean(self._read(row, [(row.first_step, row.last_step)])) for rank, row in self._rows(key)}

    @property
    def names(self) -> list[str]:
        """Of the series that a rank as such has."""
        return sorted(self._of_ranks)

    def some(self, key: str, rank: int = 0) -> History | None:
        """As :meth:`samples`, of one rank and however few; None for none."""
        row = self._of_ranks.get(key, {}).get(rank)
        samples = self._samples(row) if row is not None else None
        return samples if samples is not None and len(samples.values) else None

    def of_devices(self, key: str) -> dict[tuple[int, str], History]:
        """Samples of one of torch's own series, which have their device as context, by rank and device."""
        found = {}
        for row in self.series:
            context = dict(row.context)
            device = context.pop("device", None)
            if row.key == key and device is not None and not set(context) - {"rank"}:
                rank = context.get("rank", "0")
                found[int(rank) if rank.isdecimal() else 0, device] = self._samples(row)
        return found

    def gpus(self) -> list[int]:
        """Their numbers, as the program counts them."""
        return sorted({int(found[1]) for key in self._of_ranks if (found := _GPU.match(key))})

    def gpu(self, name: str) -> dict[tuple[int, int], History]:
        """By rank and GPU. Raises :class:`NotRecorded`."""
        found: dict[tuple[int, int], History] = {}
        missing = "a GPU"
        for number in self.gpus():
            try:
                samples = self.samples(f"system.gpu.{number}.{name}")
            except NotRecorded as error:
                missing = str(error)
                continue
            found |= {(rank, number): history for rank, history in samples.items()}
        if not found:
            raise NotRecorded(missing)
        return found

    # --- private ----------------------------------------------------------------------------------------------------

    def _times(self, key: str) -> dict[int, list[SeriesRow]]:
        """By rank, the series whose sum this time is. Where several optimizers share a step, each tells how long it took since
        the one before."""
        found: dict[int, list[SeriesRow]] = {}
        for row in self.series:
            if row.key == key and (rank := rank_of(row, besides="optimizer")) is not None:
                found.setdefault(rank, []).append(row)
        return found

    def _sum(self, rows: Sequence[SeriesRow], stretches: list[tuple[int, int]]) -> History:
        return added_up([last_of_each(self._read(row, stretches)) for row in rows])

    def _rows(self, key: str) -> list[tuple[int, SeriesRow]]:
        return sorted(self._of_ranks.get(key, {}).items(), key=lambda item: item[0])

    def _samples(self, row: SeriesRow) -> History:
        return clean(self._read(row, list(_stretches([row], MOST_POINTS))), self.window)

    def _read(self, row: SeriesRow, stretches: list[tuple[int, int]]) -> History:
        pieces = [self.backend.history(row.run, row.key, row.context, steps=bounds) for bounds in stretches]
        return History(
            np.concatenate([piece.steps for piece in pieces]),
            np.concatenate([piece.times_ns for piece in pieces]),
            np.concatenate([piece.values for piece in pieces]),
        )


def _stretches(rows: Sequence[SeriesRow], most: int) -> Iterator[tuple[int, int]]:
    """Bounds of steps in which there are about ``most`` points of the longest of these series, from all over them."""
    first, last = min(row.first_step for row in rows), max(row.last_step for row in rows)
    count = max(row.count for row in rows)
    if count <= most:
        yield first, last
        return
    length = (last - first + 1) / _STRETCHES
    for number in range(_STRETCHES):
        start = first + round(number * length)
        yield start, start + max(1, round(length * most / count)) - 1


def device_number(device: str) -> str:
    """Of a device of torch: ``1`` of ``cuda:1``."""
    return device.partition(":")[2] or "0"
