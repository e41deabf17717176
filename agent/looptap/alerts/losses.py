"""What is wrong with a loss: it is no number any more, or it goes up and up."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise

from looptap.alerts.latch import CRITICAL, FIRED, RECOVERED, WARNING, Change, Latch

#: So many finite values in a row, and a loss that was NaN has recovered.
FINITE_AGAIN_VALUES = 100
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


class NotFinite:
    """A loss is NaN or infinite: fires at the first such value."""

    kind = "not_finite"

    def __init__(self, key: str) -> None:
        self._key = key
        self._stands = False
        self._finite = 0

    def see(self, value: float, step: int) -> Change | None:
        if math.isfinite(value):
            if not self._stands:
                return None
            self._finite += 1
            if self._finite < FINITE_AGAIN_VALUES:
                return None
            self._stands = False
            said = f"{self._key} has been finite for {FINITE_AGAIN_VALUES} values"
            return Change(self.kind, CRITICAL, RECOVERED, said, self._key, value, None, step)
        self._finite = 0
        if self._stands:
            return None
        self._stands = True
        said = f"{self._key} is {'NaN' if math.isnan(value) else 'infinite'} since step {step}"
        return Change(self.kind, CRITICAL, FIRED, said, self._key, value, None, step)


class Norms:
    """Since which step the gradient norms that the program computes for its own clipping are not finite, by call."""

    def __init__(self) -> None:
        self._since: dict[str, int | None] = {}

    def see(self, call: str, value: float, step: int) -> None:
        if math.isfinite(value):
            self._since[call] = None
        elif self._since.get(call) is None:
            self._since[call] = step

    def in_words(self) -> str:
        """What to say of them beside a loss that is NaN; nothing where the program told none."""
        if not self._since:
            return ""
        odd = {call: since for call, since in self._since.items() if since is not None}
        if not odd:
            return "; the gradient norms that the program clips were finite"
        if len(self._since) == 1:
            return f"; the gradient norm is not finite since step {min(odd.values())}"
        told = ", ".join(f"{call} since step {since}" for call, since in sorted(odd.items()))
        fine = [call for call in sorted(self._since) if call not in odd]
        return f"; gradient norm not finite of clipping call {told}" + (
            f", finite of {', '.join(fine)}" if fine else ""
        )


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
