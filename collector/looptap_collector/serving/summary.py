"""Windows of several replicas, endpoints and times as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from looptap.events import Window
from looptap.sketches import histogram
from looptap.sketches.histogram import Histogram, Told
from looptap_collector.backend import RunWindow
from looptap_collector.serving.streams import Streams, add_encoded
from looptap_collector.windows import was_asked

_NS = 1e9


class Endpoint:
    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.total = Histogram()


class Summary:
    """Counts and sketches are those that one process had found that answered everything."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors: Counter[str] = Counter()
        self.endpoints: dict[str, Endpoint] = {}
        #: Journals, one for each process.
        self.replicas: set[str] = set()
        self.runs: set[str] = set()
        #: SHA-256 of the weights file, as the latest window has it that knows.
        self.digest: str | None = None
        #: The fingerprint of its weights, of any window that knows.
        self.weights: str | None = None
        #: When the first window began and the last one ended; None while there is none.
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.in_flight_max = 0
        self.latency: dict[str, Histogram] = {}
        self.batch = Histogram()
        self.shapes: Counter[str] = Counter()
        self.predictions: Streams = {}
        self.outcomes: Streams = {}
        self.labels: Streams = {}
        self.features: Streams = {}
        self.skipped: Counter[str] = Counter()
        self._digest_ns = -(2**63)
        self._in_flight_seconds = 0.0
        #: Means, of how many windows each, and the greatest.
        self._resources: dict[str, list[tuple[float, int, float]]] = {}

    def add(self, one: RunWindow) -> None:
        window = one.window
        for name in ("outcomes", "labels"):
            add_encoded(getattr(self, name), getattr(window, name))
        if not was_asked(window):
            return  # who tells of outcomes may be another process, at another time
        self.requests += window.requests
        self.errors.update(window.errors)
        self.replicas.add(one.journal)
        self.runs.add(one.run)
        ends_ns = window.time_ns + round(window.seconds * _NS)
        if window.digest is not None and ends_ns >= self._digest_ns:
            self.digest, self._digest_ns = window.digest, ends_ns
        self.weights = self.weights or window.weights
        self.first_ns = window.time_ns if self.first_ns is None else min(self.first_ns, window.time_ns)
        self.last_ns = ends_ns if self.last_ns is None else max(self.last_ns, ends_ns)
        self.in_flight_max = max(self.in_flight_max, window.in_flight_max)
        self._in_flight_seconds += window.in_flight * window.seconds
        self.shapes.update(window.shapes)
        self.skipped.update(window.skipped)
        self._add_sketches(window)
        for name, value in window.resources.items():
            if value == value:
                told = (value, window.windows, window.peaks.get(name, value))
                self._resources.setdefault(name, []).append(told)

    def _add_sketches(self, window: Window) -> None:
        endpoint = self.endpoints.setdefault(window.endpoint, Endpoint())
        endpoint.requests += window.requests
        endpoint.errors += sum(window.errors.values())
        for part, encoded in window.latency.items():
            told = histogram.told(encoded)
            if part not in self.latency:
                self.latency[part] = Histogram()
            merge_times(self.latency[part], told)
            if part == "total":
                merge_times(endpoint.total, told)
        if window.batch is not None:
            merge_times(self.batch, histogram.told(window.batch))
        for name in ("predictions", "features"):
            add_encoded(getattr(self, name), getattr(window, name))

    @property
    def seconds(self) -> float:
        """From the beginning of the first window to the end of the last one."""
        return 0.0 if self.first_ns is None or self.last_ns is None else (self.last_ns - self.first_ns) / _NS

    @property
    def per_second(self) -> float | None:
        return self.requests / self.seconds if self.seconds else None

    @property
    def failed(self) -> int:
        """Requests that went wrong."""
        return self.errors.total()

    @property
    def error_rate(self) -> float | None:
        return self.failed / self.requests if self.requests else None

    @property
    def in_flight(self) -> float | None:
        """The mean of all replicas and endpoints together."""
        return self._in_flight_seconds / self.seconds if self.seconds else None

    @property
    def resources(self) -> dict[str, tuple[float, float]]:
        """Mean and maximum over windows, of one replica."""
        return {
            name: (
                sum(mean * windows for mean, windows, _ in told) / sum(windows for _, windows, _ in told),
                max(peak for _, _, peak in told),
            )
            for name, told in sorted(self._resources.items())
        }


def summed(windows: Iterable[RunWindow]) -> Summary:
    found = Summary()
    for one in windows:
        found.add(one)
    return found


def by_version(windows: Iterable[RunWindow]) -> dict[str | None, Summary]:
    """The version that was asked last comes first."""
    found: dict[str | None, Summary] = {}
    for one in windows:
        found.setdefault(one.window.version, Summary()).add(one)
    return dict(sorted(found.items(), key=lambda item: -(item[1].last_ns or 0)))


def merge_times(into: Histogram, told: Histogram | Told) -> None:
    """Times and sizes are counted around zero by every agent; what is not cannot be merged, and is left out."""
    if (told.center, told.spread) == (into.center, into.spread):
        into.merge(told)
