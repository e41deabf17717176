"""A rank that keeps the others of its job waiting, among those on one host.

Each rank leaves its pace in the folder of its own journal; one process of the host reads those of all. So nothing is asked of the
training, nor of a network; ranks on other hosts are compared where all of their times are: in the store (``slowest_rank``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from looptap.alerts.latch import FIRED, WARNING, Change, Latch
from looptap.journal import beside
from looptap.journal.folder import Unusable, find_journals, read_meta

#: A rank lags when it takes this share of a step longer than the median of the others, until it begins to wait for them; …
LAG_SHARE = 0.2
#: … for so long. It has recovered when it is below half of that for as long.
LAG_SECONDS = 60.0
#: Seconds between two looks at the paces; each is the mean since the one before.
PACE_SECONDS = 10.0
#: A pace that nobody has renewed for so many looks is of a rank that makes no steps.
_STALE_LOOKS = 3
_FILE = "pace"
#: Up to where a rank waits for the others, which it does in its backward pass.
_BEFORE_THE_WAIT = {"time.data", "time.transfer", "time.forward", "time.other"}
_WHOLE_STEP = "step_time"


class Told(msgspec.Struct, frozen=True):
    """``seconds`` a step until it waits, ``whole`` with all; ``at`` by the clock of the host."""

    seconds: float
    whole: float
    at: float


class Pace:
    """How long the steps of this rank take. :meth:`see` every value, :meth:`take` now and then."""

    def __init__(self) -> None:
        self._before = self._whole = 0.0
        self._steps = 0
        self._last_step: int | None = None

    def see(self, key: str, value: float, step: int) -> None:
        if key == _WHOLE_STEP:
            self._whole += value
            # Several optimizers may share a step, and each tells its part.
            self._steps += step != self._last_step
            self._last_step = step
        elif key in _BEFORE_THE_WAIT:
            self._before += value

    @staticmethod
    def wants(key: str) -> bool:
        return key == _WHOLE_STEP or key in _BEFORE_THE_WAIT

    def take(self, at: float) -> Told | None:
        """The means since the last time; None without a step."""
        steps, before, whole = self._steps, self._before, self._whole
        self._before, self._whole, self._steps = 0.0, 0.0, 0
        return Told(before / steps, whole / steps, at) if steps and before > 0 else None


class Lagging:
    """Told the paces of all ranks, by rank."""

    kind = "rank_lag"

    def __init__(self) -> None:
        self._latch = Latch(LAG_SECONDS, LAG_SECONDS)

    def see(self, paces: Mapping[int, Told], time: float) -> Change | None:
        if len(paces) < 2:
            self._latch.lost_sight()
            return None
        slowest = max(paces, key=lambda rank: paces[rank].seconds)
        others = sorted(pace.seconds for rank, pace in paces.items() if rank != slowest)
        median = others[len(others) // 2]
        # All wait for the slowest one, so their steps take as long.
        lag, whole = paces[slowest].seconds - median, max(pace.whole for pace in paces.values())
        is_wrong, is_right = lag > LAG_SHARE * whole, lag < LAG_SHARE / 2 * whole
        state = self._latch.see(time, is_wrong=is_wrong, is_right=is_right)
        if state is None:
            return None
        said = f"rank {slowest} takes {paces[slowest].seconds:.3g} s of a step until it waits for others, the others {median:.3g} s"
        if state != FIRED:
            said = f"no rank keeps the others waiting: the slowest takes {lag:.3g} s longer than they"
        return Change(self.kind, WARNING, state, said, "slowest_rank_lag", lag, LAG_SHARE * whole)


def leave(folder: Path, told: Told) -> None:
    """In the folder of the rank's own journal."""
    with contextlib.suppress(OSError):
        beside.leave(beside.place(folder, _FILE), told)


def found(root: Path, run: str, now: float) -> dict[int, Told]:
    """Of all ranks of this run whose journals are here."""
    paces: dict[int, Told] = {}
    for rank, folder in _journals(root, run):
        told = beside.found(beside.place(folder, _FILE), Told)
        if told is not None and 0 <= now - told.at <= _STALE_LOOKS * PACE_SECONDS:
            paces[rank] = told
    return paces


def _journals(root: Path, run: str) -> Iterator[tuple[int, Path]]:
    for folder in find_journals(root):
        with contextlib.suppress(Unusable, OSError):
            meta = read_meta(folder)
            if meta.run == run and meta.is_primary and meta.is_of_this_machine():
                yield meta.rank, folder
