"""What one process answered in many short windows, as a few long ones.

Sums, sketches, greatest values and classes of errors are those that the short windows came to, to the bit; means (of what was in
flight, of resources) are weighed, and may differ in the last digits. What is lost is when within the long window it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import msgspec

from looptap.events import Window
from looptap.sketches import distribution, histogram
from looptap.sketches.distribution import MOST_CLASSES_OF_MANY, Distribution
from looptap.sketches.histogram import MOST_VALUES, Histogram
from looptap.sketches.sampling import sampled
from looptap_collector.window_checks import PARTS
from looptap_collector.windows import was_asked

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_NS = 10**9
_STREAMS = ("predictions", "outcomes", "labels", "features")
_COUNTS = ("errors", "shapes", "skipped")
#: Kinds that are not told by name, as agents call them.
_OTHER = "other"

_Sketches: TypeAlias = dict[tuple[str, str], Histogram | Distribution]


class Form(NamedTuple):
    """What began so many seconds ago, or earlier, is kept in windows of ``stretch`` seconds, counted from the epoch."""

    age: int
    stretch: int


#: Each is made of the one before it. What is looked at closely is of today and yesterday; in a week or two hours can be told apart,
#: in months days. A replica that is asked all the time has 17,280 short windows then, 1,728 of ten minutes, and 1,460 a year.
FORMS = (Form(2 * _DAY, 10 * _MINUTE), Form(14 * _DAY, 6 * _HOUR))


def merged(windows: Iterable[Window]) -> list[Window]:
    """Of one journal, model, version, endpoint and split; in order of time, as few as can be.

    Windows of different weights stay apart, those whose numbers are counted around different centers, and those that only tell what
    came of earlier predictions. Each begins as one of those that it is made of, so it has the name that this one had. Raises
    ValueError for a sketch that cannot be read.
    """
    found: list[_Long] = []
    for window in sorted(windows, key=lambda one: one.time_ns):
        sketches = dict(_sketches(window))
        into = next((one for one in found if one.takes(window, sketches)), None)
        if into is None:
            found.append(_Long(window, sketches))
        else:
            into.add(window, sketches)
    return [one.window() for one in found]


class _Long:
    """Windows that can be merged exactly, in order of time."""

    def __init__(self, first: Window, sketches: _Sketches) -> None:
        self._windows = [first]
        self._sketches = sketches

    def takes(self, window: Window, sketches: _Sketches) -> bool:
        first = self._windows[0]
        alike = (window.digest, window.weights, was_asked(window)) == (first.digest, first.weights, was_asked(first))
        return (
            alike
            and len(self._sketches.keys() | sketches.keys()) <= PARTS
            and all(_can_merge(self._sketches[name], told) for name, told in sketches.items() if name in self._sketches)
        )

    def add(self, window: Window, sketches: _Sketches) -> None:
        self._windows.append(window)
        for name, told in sketches.items():
            known: Any = self._sketches.get(name)
            if known is None:
                self._sketches[name] = told
            else:
                known.merge(told)

    def window(self) -> Window:
        windows = self._windows
        if len(windows) == 1:
            return windows[0]
        begins = windows[0].time_ns
        seconds = (max(map(_ends_ns, windows)) - begins) / _NS
        busy = sum(one.in_flight * one.seconds for one in windows)
        batch = self._sketches.get(("batch", ""))
        return msgspec.structs.replace(
            windows[-1],
            time_ns=begins,
            seconds=seconds,
            requests=sum(one.requests for one in windows),
            in_flight=busy / seconds if seconds else 0.0,
            in_flight_max=max(one.in_flight_max for one in windows),
            batch=None if batch is None else batch.encode(),
            **{name: _summed(getattr(one, name) for one in windows) for name in _COUNTS},
            **{kind: self._encoded(kind) for kind in ("latency", *_STREAMS)},
            resources=dict(_means(windows)),
            examples=sampled(example for one in windows for example in one.examples),
            windows=sum(one.windows for one in windows),
            peaks=_peaks(windows),
        )

    def _encoded(self, kind: str) -> dict[str, bytes]:
        return {
            name: told.encode(MOST_CLASSES_OF_MANY) if isinstance(told, Distribution) else told.encode()
            for (of_kind, name), told in self._sketches.items()
            if of_kind == kind
        }


def _sketches(window: Window) -> Iterator[tuple[tuple[str, str], Histogram | Distribution]]:
    for part, encoded in window.latency.items():
        yield ("latency", part), histogram.decode(encoded)
    if window.batch is not None:
        yield ("batch", ""), histogram.decode(window.batch)
    for kind in _STREAMS:
        for name, encoded in getattr(window, kind).items():
            yield (kind, name), distribution.decode(encoded)


def _can_merge(one: Histogram | Distribution, other: Histogram | Distribution) -> bool:
    frames = [
        (told.center, told.spread)
        for told in (each.numbers if isinstance(each, Distribution) else each for each in (one, other))
    ]
    # More than that could not be read again.
    return frames[0] == frames[1] and len(one) + len(other) <= MOST_VALUES


def _ends_ns(window: Window) -> int:
    return window.time_ns + round(window.seconds * _NS)


def _summed(told: Iterable[dict[str, int]]) -> dict[str, int]:
    """By name, as long as there are not more than one window may have; the rarest are then told as one."""
    counts: Counter[str] = Counter()
    for one in told:
        counts.update(one)
    if len(counts) > PARTS:
        named = dict(counts.most_common(PARTS - 1))
        named[_OTHER] = named.get(_OTHER, 0) + counts.total() - sum(named.values())
        return named
    return dict(counts)


def _means(windows: Iterable[Window]) -> Iterator[tuple[str, float]]:
    sums: dict[str, list[tuple[float, int]]] = {}
    for window in windows:
        for name, value in window.resources.items():
            if value == value:
                sums.setdefault(name, []).append((value, window.windows))
    for name, known in sums.items():
        yield name, sum(value * count for value, count in known) / sum(count for _, count in known)


def _peaks(windows: Iterable[Window]) -> dict[str, float]:
    peaks: dict[str, float] = {}
    for window in windows:
        for name, value in (window.resources | window.peaks).items():
            if value == value:
                peaks[name] = max(value, peaks.get(name, value))
    return peaks
