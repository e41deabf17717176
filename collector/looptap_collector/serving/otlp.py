"""Windows of serving as OpenTelemetry metrics (OTLP), without loss: a window is a point of delta temporality, and a histogram is an
ExponentialHistogram of scale 5, whose buckets are ours.

Numbers that are counted around a center have no such form; they are histograms with the bounds of their own buckets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_DELTA,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from looptap.events import Window
from looptap.sketches import distribution, histogram
from looptap.sketches.distribution import Distribution
from looptap.sketches.histogram import SCALE
from looptap_collector.backend import RunWindow

_DELTA = AGGREGATION_TEMPORALITY_DELTA
_KINDS = ("predictions", "outcomes", "labels", "features")


def request_of(windows: Iterable[RunWindow]) -> ExportMetricsServiceRequest:
    """One resource for each process that served (``service.instance.id`` is its journal)."""
    ordered = sorted(windows, key=lambda one: (one.run, one.journal, one.window.time_ns))
    return ExportMetricsServiceRequest(
        resource_metrics=[
            ResourceMetrics(
                resource=Resource(
                    attributes=_attributes(
                        {"service.name": "looptap", "service.instance.id": journal, "looptap.run": run}
                    )
                ),
                scope_metrics=[
                    ScopeMetrics(
                        scope=InstrumentationScope(name="looptap.serving"),
                        metrics=[metric for one in some for metric in _metrics(one.window)],
                    )
                ],
            )
            for (run, journal), some in groupby(ordered, key=lambda one: (one.run, one.journal))
        ]
    )


def _metrics(window: Window) -> Iterator[Metric]:
    yield _counted("requests", "{request}", window, {(): window.requests})
    yield _counted("errors", "{request}", window, {(("error.type", name),): n for name, n in window.errors.items()})
    yield _measured("in_flight", "{request}", window, {(("statistic", "mean"),): window.in_flight})
    yield _measured("in_flight", "{request}", window, {(("statistic", "max"),): float(window.in_flight_max)})
    yield _measured("resource", "", window, {(("name", name),): value for name, value in window.resources.items()})
    yield _counted("shapes", "{request}", window, {(("shape", name),): n for name, n in window.shapes.items()})
    yield _counted("skipped", "{row}", window, {(("reason", name),): n for name, n in window.skipped.items()})
    for part, encoded in window.latency.items():
        yield _numbers("duration", "s", window, histogram.decode(encoded), {"part": part})
    if window.batch is not None:
        yield _numbers("batch", "{row}", window, histogram.decode(window.batch), {})
    for kind in _KINDS:
        for stream, encoded in getattr(window, kind).items():
            yield from _stream(kind, stream, window, distribution.decode(encoded))


def _stream(kind: str, stream: str, window: Window, told: Distribution) -> Iterator[Metric]:
    if len(told.numbers):
        yield _numbers(f"{kind}.numbers", "", window, told.numbers, {"stream": stream})
    named: dict[_Labels, int] = {(("stream", stream), ("class", name)): count for name, count in told.classes.items()}
    yield _counted(f"{kind}.classes", "{value}", window, named)
    # Apart from classes, which may have these very names.
    odd = {name: getattr(told, name) for name in ("other", "nan", "above", "below", "null")}
    yield _counted(
        f"{kind}.others", "{value}", window, {(("stream", stream), ("what", name)): n for name, n in odd.items() if n}
    )


_Labels = tuple[tuple[str, str], ...]


def _counted(name: str, unit: str, window: Window, counts: Mapping[_Labels, int]) -> Metric:
    points = [NumberDataPoint(as_int=count, **_head(window, dict(labels))) for labels, count in counts.items()]
    told = Sum(data_points=points, aggregation_temporality=_DELTA, is_monotonic=True)
    return Metric(name=f"looptap.serving.{name}", unit=unit, sum=told)


def _measured(name: str, unit: str, window: Window, values: Mapping[_Labels, float]) -> Metric:
    points = [NumberDataPoint(as_double=value, **_head(window, dict(labels))) for labels, value in values.items()]
    return Metric(name=f"looptap.serving.{name}", unit=unit, gauge=Gauge(data_points=points))


def _numbers(name: str, unit: str, window: Window, told: histogram.Histogram, labels: Mapping[str, str]) -> Metric:
    head = _head(window, labels)
    if len(told):
        head |= {"min": told.min, "max": told.max}
    head |= {"count": len(told), "sum": told.sum}
    named: dict[str, Any] = {"name": f"looptap.serving.{name}", "unit": unit}
    if (told.center, told.spread) == (0.0, 1.0):
        point = ExponentialHistogramDataPoint(
            scale=SCALE,
            zero_count=told.zero,
            positive=_dense(told.positive),
            negative=_dense(told.negative),
            **head,
        )
        exponential = ExponentialHistogram(data_points=[point], aggregation_temporality=_DELTA)
        return Metric(exponential_histogram=exponential, **named)
    bounds, counts = _explicit(told)
    explicit = HistogramDataPoint(explicit_bounds=bounds, bucket_counts=counts, **head)
    return Metric(histogram=Histogram(data_points=[explicit], aggregation_temporality=_DELTA), **named)


def _dense(buckets: Mapping[int, int]) -> ExponentialHistogramDataPoint.Buckets:
    """From the first bucket with a count to the last one."""
    if not buckets:
        return ExponentialHistogramDataPoint.Buckets()
    first, last = min(buckets), max(buckets)
    counts = [buckets.get(index, 0) for index in range(first, last + 1)]
    return ExponentialHistogramDataPoint.Buckets(offset=first, bucket_counts=counts)


def _explicit(told: histogram.Histogram) -> tuple[list[float], list[int]]:
    """Upper bounds, and the counts up to each; one more behind the last."""
    bounds: list[float] = []
    counts: list[int] = []
    for bucket in told.buckets():
        if not bounds or bucket.low > bounds[-1]:
            bounds.append(bucket.low)
            counts.append(0)
        if bucket.high > bounds[-1]:
            bounds.append(bucket.high)
            counts.append(0)
        counts[-1] += bucket.count
    return bounds, [*counts, 0]


def _head(window: Window, labels: Mapping[str, str]) -> dict[str, Any]:
    names = {"looptap.model": window.model, "looptap.version": window.version, "looptap.digest": window.digest}
    names |= {"looptap.endpoint": window.endpoint, "looptap.split": window.split}
    known = {name: value for name, value in names.items() if value is not None}
    return {
        "attributes": _attributes(known | dict(labels)),
        "start_time_unix_nano": max(0, window.time_ns),
        "time_unix_nano": max(0, window.time_ns + round(window.seconds * 1e9)),
    }


def _attributes(values: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in values.items()]
