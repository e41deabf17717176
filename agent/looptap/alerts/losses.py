"""Which series are losses, and when one of them goes up and up."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise

from looptap.alerts.latch import WARNING, Change, Latch

#: Values that are looked at together: their median is where the loss is, whatever single ones do.
BLOCK_VALUES = 50
#: A loss diverges when it has lost this share of what it had gained, in two blocks one after the other, …
LOST_SHARE = 0.5
#: … and at least so often the scatter of its best block, …
SCATTERS = 10.0
#: … and at least this share of its first block.
LEAST_SHARE = 0.1
_BLOCKS = 2

_LOSS = re.compile(r"loss|nll|perplexity|objective|^err|[._/]err|mse|cost|elbo", re.IGNORECASE)
_NO_LOSS = re.compile(
    r"(^|[._/ -])(scale|time|seconds|norm|weight|skipped|steps?)([._/ -]|$)|_(time|scale|norm|weight)$", re.I
)
_NO_TRAINING = re.compile(r"val|test|eval", re.IGNORECASE)


def is_loss(key: str) -> bool:
    """By its name."""
    return bool(_LOSS.search(key)) and not _NO_LOSS.search(key)


def is_of_training(key: str, context: Mapping[str, str]) -> bool:
    return not _NO_TRAINING.search(key) and context.get("phase", "train") == "train"


class Diverging:
    """A loss goes up for good. See the constants for what that is."""

    kind = "diverging"

    def __init__(self, key: str) -> None:
        self._key = key
        self._block: list[float] = []
        self._first: float | None = None
        self._best = math.inf
        self._scatter = 0.0
        self._wrong_blocks = 0
        self._latch = Latch()

    def see(self, value: float, step: int) -> Change | None:
        if not math.isfinite(value):
            return None
        self._block.append(value)
        if len(self._block) < BLOCK_VALUES:
            return None
        block, self._block = self._block, []
        level, scatter = _median(block), _scatter(block)
        if self._first is None:
            self._first = level
        change = self._judge(level, step)
        if level < self._best:
            self._best, self._scatter = level, scatter
        return change

    def _judge(self, level: float, step: int) -> Change | None:
        if self._first is None or self._best == math.inf:
            return None
        room = max(LOST_SHARE * (self._first - self._best), SCATTERS * self._scatter, LEAST_SHARE * abs(self._first))
        limit = self._best + room
        self._wrong_blocks = self._wrong_blocks + 1 if level > limit else 0
        # Blocks are its time.
        is_right = level < self._best + room / 2
        state = self._latch.see(step, is_wrong=self._wrong_blocks >= _BLOCKS, is_right=is_right)
        if state is None:
            return None
        said = f"{self._key} is at {level:.4g} (median of {BLOCK_VALUES}) at step {step}, its best was {self._best:.4g}"
        return Change(self.kind, WARNING, state, said, self._key, level, limit, step)


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _scatter(values: list[float]) -> float:
    """As a standard deviation, from the distances between neighbours: neither a slope nor single values count."""
    distances = [abs(one - other) for one, other in pairwise(values)]
    return 1.4826 / math.sqrt(2) * _median(distances)
