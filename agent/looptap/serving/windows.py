"""Counts requests in windows of ten seconds, one for each model, version and endpoint.

A request belongs to the window in which it ended; what it asked of several models is a request to each of them. How many were under
way counts by the time that each of them was, so a request that hangs for an hour is seen in every window of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from looptap.events import Window
from looptap.plain import clean
from looptap.serving.answers import rows_of, shape_of
from looptap.serving.examples import Examples
from looptap.serving.model import NO_MODEL, Model
from looptap.serving.outcomes import Outcome
from looptap.serving.predictions import Streams
from looptap.serving.traffic import ModelCall, Request
from looptap.sketches.histogram import Histogram
from looptap.sketches.sampling import MOST_EXAMPLES

SECONDS = 10
_WINDOW_NS = SECONDS * 10**9
#: So many windows at a time, and so many classes of errors and shapes in each: what is beyond is told as one.
MOST_WINDOWS = 200
MOST_KINDS = 20
#: So many windows at a time have examples: together 4 MiB of them at most.
MOST_WITH_EXAMPLES = 50
OTHER = "other"

Key = tuple[str, str | None, str]


class Measured:
    """Whole numbers, ``unit`` of which are one of the unit that they are told in."""

    def __init__(self, unit: float) -> None:
        self._unit = unit
        self._histogram = Histogram()
        #: Those that are not in the histogram yet: many at once cost least.
        self.waiting: list[int] = []

    def histogram(self) -> Histogram:
        waiting, self.waiting = self.waiting, []
        self._histogram.add([number / self._unit for number in waiting])
        return self._histogram


class Counting:
    """One window of one model, version and endpoint, while it is counted."""

    def __init__(self, model: Model, endpoint: str, most_examples: int = MOST_EXAMPLES) -> None:
        self.model = model
        self.endpoint = endpoint
        self.requests = 0
        self.errors: Counter[str] = Counter()
        self.in_flight_max = 0
        self.busy_ns = 0
        self.latency: dict[str, Measured] = {}
        self.rows = Measured(1.0)
        #: Sizes and types of what was asked.
        self._asked: Counter[Any] = Counter()
        self.predictions = Streams(model.around)
        self.features = Streams()
        self.outcomes = Streams()
        self.labels = Streams()
        self.examples = Examples(most_examples)

    def took(self, part: str, nanoseconds: int) -> None:
        measured = self.latency.get(part)
        if measured is None:
            measured = self.latency[part] = Measured(1e9)
        if nanoseconds >= 0:
            measured.waiting.append(nanoseconds)

    def count(self, request: Request, calls: list[ModelCall], since_ns: int) -> None:
        """A request has ended that made these calls of this model; the window began at ``since_ns``."""
        begun, ended = request.begun, request.ended
        self.requests += 1
        if request.in_flight > self.in_flight_max:
            self.in_flight_max = request.in_flight
        self.busy_ns += ended - max(begun, since_ns)
        error = request.error
        self.took("total", ended - begun)
        if request.queued:
            self.took("queue", request.queued)
        if request.items is not None:
            self.took("first", request.first - begun)
            self.between(request)
        model_ns, first, last = 0, 0, 0
        for call in calls:
            if call.ended:
                took = call.device_ns or call.ended - call.begun
                model_ns += took
                # On a device the call ends before its work does.
                first, last = first or call.begun, max(call.ended, call.begun + took)
                error = error or call.error
                self._look_at(call)
        if last:
            self.took("model", model_ns)
            if request.endpoint:
                self.took("before", first - begun)
                self.took("after", max(0, ended - last))
        if error:
            _count(self.errors, error)

    def between(self, request: Request) -> None:
        """The pieces that a stream has sent since the last look."""
        items = request.items
        while items:
            self.took("between", items.popleft())

    def as_window(self, time_ns: int) -> Window:
        return Window(
            model=clean(self.model.name),
            time_ns=time_ns,
            seconds=float(SECONDS),
            version=None if self.model.version is None else clean(self.model.version),
            digest=self.model.digest,
            weights=self.model.weights,
            endpoint=clean(self.endpoint),
            requests=self.requests,
            errors={clean(name): count for name, count in self.errors.items()},
            in_flight=self.busy_ns / _WINDOW_NS,
            in_flight_max=self.in_flight_max,
            latency={part: measured.histogram().encode() for part, measured in self.latency.items()},
            batch=self.rows.histogram().encode() if len(self.rows.histogram()) else None,
            shapes=self._shapes(),
            predictions=_encoded(self.predictions),
            outcomes=_encoded(self.outcomes),
            labels=_encoded(self.labels),
            features=_encoded(self.features),
            skipped=dict(self.predictions.skipped),
            examples=self.examples.told(),
        )

    def _shapes(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for asked, count in self._asked.most_common():
            name = shape_of(asked) or OTHER
            found[name if name in found or len(found) < MOST_KINDS else OTHER] += count
        return dict(found)

    def _look_at(self, call: ModelCall) -> None:
        rows = self.predictions.add(call.answer) if call.error is None else None
        asked = call.asked
        if asked is not None:
            rows = rows_of(asked)
            if isinstance(asked, tuple):
                self._asked[asked] += 1
        if rows is not None:
            self.rows.waiting.append(rows)
        if call.features is not None:
            self.features.add(call.features)
        if call.kept is not None:
            self.examples.add(call.kept)


class Windows:
    """Of one thread, which tells it what has happened, and when."""

    def __init__(self) -> None:
        self._open: dict[Key, Counting] = {}
        self._number = 0
        #: From the clock of requests to that of the world.
        self._offset_ns = 0
        self.look_at_clock()

    def look_at_clock(self) -> None:
        """The clock of the world may be set while requests are measured."""
        self._offset_ns = time.time_ns() - time.perf_counter_ns()

    def begin(self, at: int) -> None:
        """Windows that are open belong to this moment."""
        self._number = (at + self._offset_ns) // _WINDOW_NS

    @property
    def end_ns(self) -> int:
        """When those that are open are over, by the clock of requests."""
        return (self._number + 1) * _WINDOW_NS - self._offset_ns

    @property
    def since_ns(self) -> int:
        """When they have begun, by the same clock."""
        return self.end_ns - _WINDOW_NS

    def count(self, request: Request) -> None:
        since_ns = self.since_ns
        calls = request.calls
        if len(calls) < 2:
            self._window(calls[0].model if calls else NO_MODEL, request.endpoint).count(request, calls, since_ns)
            return
        by_model: dict[Model, list[ModelCall]] = {}
        for call in request.calls:
            by_model.setdefault(call.model, []).append(call)
        for model, calls in by_model.items():
            self._window(model, request.endpoint).count(request, calls, since_ns)

    def outcome(self, outcome: Outcome) -> None:
        """It belongs to the window in which it became known."""
        window = self._window(outcome.model, "")
        label, predicted = outcome.label, outcome.prediction.predicted
        window.labels.add(label)
        if isinstance(label, float) and isinstance(predicted, float):
            window.outcomes.add_numbers("error", [label - predicted])
        else:
            window.outcomes.add_names("correct", ["yes" if label == predicted else "no"])

    def close(self, live: Iterable[Request]) -> list[Window]:
        """What has been counted. ``live`` requests were under way until the end of the windows, or until now."""
        until = min(self.end_ns, time.perf_counter_ns())
        since = self.since_ns
        for request in live:
            calls = request.calls
            model = calls[0].model if calls else NO_MODEL
            where = request.where  # gone when it ends, which may be now
            window = self._window(model, request.endpoint or (where() if where is not None else ""))
            window.busy_ns += max(0, until - max(request.begun, since))
            window.in_flight_max = max(window.in_flight_max, request.in_flight)
            window.between(request)
        windows = self.so_far()
        self._open.clear()
        return windows

    def models(self) -> set[Model]:
        """Those that were asked in the windows that are open."""
        return {counting.model for counting in self._open.values()}

    def so_far(self) -> list[Window]:
        """As if they were over now."""
        return [counting.as_window(self._number * _WINDOW_NS) for counting in self._open.values()]

    def _window(self, model: Model, endpoint: str) -> Counting:
        key = (model.name, model.version, endpoint)
        known = self._open.get(key)
        if known is None:
            if len(self._open) >= MOST_WINDOWS and endpoint != OTHER:
                return self._window(model, OTHER)
            most = MOST_EXAMPLES if len(self._open) < MOST_WITH_EXAMPLES else 0
            known = self._open[key] = Counting(model, endpoint, most)
        return known


def _encoded(streams: Streams) -> dict[str, bytes]:
    return {clean(name): one.encode() for name, one in streams.found().items()}


def _count(counts: Counter[str], name: str) -> None:
    counts[name if name in counts or len(counts) < MOST_KINDS else OTHER] += 1
