"""What served models answered, as counters for Prometheus: of the windows that this collector stored since it started.

Counters of several collectors of one store add up, because each window is stored by one of them. A window counts when it arrives:
after an outage an hour comes at once.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from looptap.events import Window
from looptap.sketches import histogram
from looptap.sketches.cumulative import Cumulative
from looptap.sketches.histogram import Histogram
from looptap_collector.rows import window_id

#: Combinations of model, version and endpoint; whatever comes beyond is counted as one.
MOST_KEYS = 500
OTHER = ("other", "", "other")
#: A window that comes again within so many others is known.
_REMEMBERED = 20_000
#: Of classic histograms, where every other bound of a bucket is left out but the powers of two: 61 µs to 64 s. Counts are exact.
BOUNDS = tuple(2.0**exponent for exponent in range(-14, 7))
LATENCY = "looptap_serving_latency_seconds"

Key = tuple[str, str, str]


class _Counted:
    def __init__(self) -> None:
        self.requests = 0
        self.errors: Counter[str] = Counter()
        self.latency: dict[str, Histogram] = {}


class Traffic(Collector):
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: dict[Key, _Counted] = {}
        self._known: OrderedDict[str, None] = OrderedDict()

    def see(self, journal: str, windows: Iterable[Window]) -> None:
        """Windows of this journal have been stored. Those of evaluations do not count."""
        with self._lock:
            for window in windows:
                if window.split is None and self._is_new(window_id(journal, window)):
                    self._count(window)

    def latencies(self) -> list[tuple[dict[str, str], Histogram]]:
        """Labels, and a histogram that does not change any more."""
        with self._lock:
            return [(labels, _copy(found)) for labels, found in self._parts()]

    def collect(self) -> Iterable[Metric]:
        """For a registry: in the classic form."""
        names = ["model", "version", "endpoint"]
        requests = CounterMetricFamily("looptap_serving_requests", "Requests to served models", labels=names)
        errors = CounterMetricFamily(
            "looptap_serving_errors", "Requests that went wrong, by class", labels=[*names, "error"]
        )
        latency = HistogramMetricFamily(LATENCY, "How long requests took, by part", labels=[*names, "part"])
        with self._lock:
            for key, counted in self._counted.items():
                requests.add_metric(list(key), counted.requests)
                for error, count in counted.errors.items():
                    errors.add_metric([*key, error], count)
            for labels, found in self._parts():
                latency.add_metric(list(labels.values()), classic_buckets(found), found.sum)
        return [requests, errors, latency]

    def _is_new(self, id: str) -> bool:
        if id in self._known:
            return False
        self._known[id] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return True

    def _count(self, window: Window) -> None:
        key = (window.model, window.version or "", window.endpoint)
        if key not in self._counted and len(self._counted) >= MOST_KEYS:
            key = OTHER
        counted = self._counted.setdefault(key, _Counted())
        counted.requests += window.requests
        counted.errors.update(window.errors)
        for part, encoded in window.latency.items():
            told = histogram.told(encoded)
            into = counted.latency.setdefault(part, Histogram())
            if (told.center, told.spread) == (into.center, into.spread):
                into.merge(told)

    def _parts(self) -> Iterator[tuple[dict[str, str], Histogram]]:
        for (model, version, endpoint), counted in self._counted.items():
            for part, found in counted.latency.items():
                yield {"model": model, "version": version, "endpoint": endpoint, "part": part}, found


def _copy(found: Histogram) -> Histogram:
    made = Histogram()
    made.merge(found)
    return made


def classic_buckets(found: Histogram) -> list[tuple[str, float]]:
    """Upper bounds as text, with how many values do not exceed each."""
    counts = Cumulative(found)
    return [*((repr(bound), counts.up_to(bound)) for bound in BOUNDS), ("+Inf", len(found))]


def spans(buckets: Mapping[int, int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Buckets as Prometheus has them: runs of neighbours (how many buckets lie between it and the one before, and its length), and
    the difference of each count to the one before. Its bucket ``i`` ends where ours does that has the number ``i - 1``."""
    found: list[tuple[int, int]] = []
    after = 0
    for index in sorted(buckets):
        if found and index + 1 == after:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((index + 1 - after, 1))
        after = index + 2
    counts = [buckets[index] for index in sorted(buckets)]
    return found, [count - before for before, count in zip([0, *counts], counts, strict=False)]
