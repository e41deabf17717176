"""A sample of calls that can be merged: for each call a number from 0 to 1 is drawn, and the calls with the least draws are kept.

So every call has the same chance, however many there are, and the least draws of several samples are the sample of all of their
calls together: windows, replicas and shares may differ, and nothing else has to be known of them (bottom-k sampling; Cohen and
Kaplan, "Summarizing data using bottom-k sketches", PODC 2007).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

#: Of one window.
MOST_EXAMPLES = 20
#: Of one example as JSON.
EXAMPLE_BYTES = 4_096


class Drawn(Protocol):
    @property
    def draw(self) -> float: ...


_Drawn = TypeVar("_Drawn", bound=Drawn)


def sampled(calls: Iterable[_Drawn], most: int = MOST_EXAMPLES) -> tuple[_Drawn, ...]:
    """Those that are kept of all of these, the least draw first."""
    return tuple(sorted(calls, key=lambda call: call.draw)[:most])
