"""One stream of answers from many windows. Those of one center and spread are merged exactly; replicas that chose others are kept
beside them, because no merging of these would be exact."""

from __future__ import annotations

from collections.abc import Mapping

from looptap.sketches import distribution
from looptap.sketches.distribution import Distribution


class Stream:
    def __init__(self) -> None:
        self._parts: dict[tuple[float, float], Distribution] = {}

    def __len__(self) -> int:
        return sum(map(len, self._parts.values()))

    def add(self, told: Distribution | distribution.Told) -> None:
        frame = (told.numbers.center, told.numbers.spread)
        if frame not in self._parts:
            self._parts[frame] = Distribution(*frame)
        self._parts[frame].merge(told)

    def whole(self) -> Distribution:
        """All of it, or what has the center and spread of most values; see :meth:`apart`."""
        return max(self._parts.values(), key=len, default=Distribution())

    def like(self, other: Distribution) -> Distribution:
        """What can be held against the other bucket by bucket, or the whole where there is nothing like it."""
        return self._parts.get((other.numbers.center, other.numbers.spread)) or self.whole()

    def apart(self) -> int:
        """How many values the whole does not have."""
        return len(self) - len(self.whole())


Streams = dict[str, Stream]


def add_encoded(streams: Streams, told: Mapping[str, bytes]) -> None:
    for name, encoded in told.items():
        streams.setdefault(name, Stream()).add(distribution.told(encoded))
