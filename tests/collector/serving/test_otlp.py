"""Windows in OpenTelemetry's words, against OpenTelemetry's own histogram."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View

from collector.serving.serving_runs import VERSION, classes, histogram, numbers
from looptap.events import Window
from looptap_collector.backend import RunWindow
from looptap_collector.serving.otlp import request_of
from looptap_collector.testing.contracts.windows import full

STREAMS = {
    "latency": lambda chance: chance.lognormvariate(-4, 2),
    "uniform": lambda chance: chance.uniform(1e-6, 10),
    "bounds": lambda chance: 2.0 ** chance.randrange(-40, 40),
    "tiny and huge": lambda chance: 10 ** chance.uniform(-70, 70),
}


def their_histogram(values: list[float]) -> Any:
    """What OpenTelemetry's SDK makes of these values at scale 5."""
    reader = InMemoryMetricReader()
    view = View(instrument_name="x", aggregation=ExponentialBucketHistogramAggregation(max_size=16_384, max_scale=5))
    provider = MeterProvider(metric_readers=[reader], views=[view])
    instrument = provider.get_meter("test").create_histogram("x")
    for value in values:
        instrument.record(value)
    data = reader.get_metrics_data()
    assert data is not None
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    return point


def metrics(*windows: Window) -> dict[str, list[Metric]]:
    found: dict[str, list[Metric]] = {}
    (resource,) = request_of([RunWindow("r1", "j1", window) for window in windows]).resource_metrics
    for metric in resource.scope_metrics[0].metrics:
        found.setdefault(metric.name.removeprefix("looptap.serving."), []).append(metric)
    return found


@pytest.mark.parametrize("name", STREAMS)
def test_buckets_are_theirs(name: str) -> None:
    """The same values give the same buckets with the same counts, and the same sum, count and extremes."""
    chance = random.Random(5)
    values = [STREAMS[name](chance) for _ in range(3_000)]
    theirs = their_histogram(values)
    assert theirs.scale == 5
    (metric,) = metrics(Window("m", 1, 10.0, latency={"total": histogram(values).encode()}))["duration"]
    (ours,) = metric.exponential_histogram.data_points
    assert (ours.scale, ours.count, ours.zero_count) == (5, theirs.count, theirs.zero_count)
    assert (ours.min, ours.max) == (theirs.min, theirs.max)
    assert ours.sum == pytest.approx(theirs.sum)
    assert trimmed(ours.positive.offset, ours.positive.bucket_counts) == trimmed(
        theirs.positive.offset, theirs.positive.bucket_counts
    )


def trimmed(offset: int, counts: Any) -> dict[int, int]:
    return {offset + at: count for at, count in enumerate(counts) if count}


def test_every_part_is_told() -> None:
    """Of a window with every field: counts as they are, a point from its beginning to its end."""
    found = metrics(full(5 * 10**18))
    assert set(found) == {
        *("requests", "errors", "in_flight", "resource", "shapes", "skipped", "duration", "batch"),
        *(
            f"{kind}.{what}"
            for kind in ("predictions", "outcomes", "labels", "features")
            for what in ("numbers", "classes", "others")
        ),
    }
    (point,) = found["requests"][0].sum.data_points
    assert point.as_int == 7
    assert (point.start_time_unix_nano, point.time_unix_nano) == (5 * 10**18, 5 * 10**18 + 10 * 10**9)
    attributes = {pair.key: pair.value.string_value for pair in point.attributes}
    assert (attributes["looptap.model"], attributes["looptap.version"]) == ("intent", VERSION)
    assert attributes["looptap.endpoint"] == "POST /predict/{id}"
    errors = {point.attributes[-1].value.string_value: point.as_int for point in found["errors"][0].sum.data_points}
    assert errors == {"ValueError": 2, "HTTP 503": 1}
    assert found["errors"][0].sum.is_monotonic
    assert found["errors"][0].sum.aggregation_temporality == 1
    assert len(found["duration"]) == 2


def test_numbers_around_a_center() -> None:
    """Keep their buckets as well: each with its bounds."""
    chance = random.Random(6)
    values = [chance.gauss(1_000, 1) for _ in range(2_000)] + [1_000.0]
    told = numbers(values, (1_000.0, 1.0))
    (metric,) = metrics(Window("m", 1, 1.0, predictions={"x": told.encode()}))["predictions.numbers"]
    (point,) = metric.histogram.data_points
    assert (point.count, sum(point.bucket_counts)) == (2_001, 2_001)
    assert list(point.explicit_bounds) == sorted(point.explicit_bounds)
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    for bound in (999.0, 999.5, 1_000.0, 1_001.25):
        below = sum(
            count
            for high, count in zip([*point.explicit_bounds, math.inf], point.bucket_counts, strict=True)
            if high <= bound
        )
        assert below == pytest.approx(sum(value <= bound for value in values), abs=40)


def test_classes_and_what_is_none() -> None:
    told = classes(cat=3, nan=1)
    told.nan, told.null, told.other = 5, 6, 7
    found = metrics(Window("m", 1, 1.0, predictions={"class": told.encode()}))
    named = {p.attributes[-1].value.string_value: p.as_int for p in found["predictions.classes"][0].sum.data_points}
    others = {p.attributes[-1].value.string_value: p.as_int for p in found["predictions.others"][0].sum.data_points}
    assert (named, others) == ({"cat": 3, "nan": 1}, {"nan": 5, "null": 6, "other": 7})


def test_replicas_are_resources() -> None:
    """Windows of a process follow each other in one."""
    told = [RunWindow("r", journal, Window("m", at, 1.0)) for at, journal in enumerate(["b", "a", "b"])]
    resources = request_of(told).resource_metrics
    assert [resource.resource.attributes[1].value.string_value for resource in resources] == ["a", "b"]
    assert len(resources[1].scope_metrics[0].metrics) == 2 * len(resources[0].scope_metrics[0].metrics)
