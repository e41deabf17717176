"""Counters of served models."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from looptap.events import Window
from looptap.sketches.histogram import Histogram
from looptap_collector.server import traffic
from looptap_collector.server.traffic import BOUNDS, Traffic, spans


def window(time_ns: int, times: list[float], **more: object) -> Window:
    latency = Histogram()
    latency.add(times)
    known = {"requests": len(times), "latency": {"total": latency.encode()}, "endpoint": "POST /p"}
    return Window("intent", time_ns, 10.0, "v1", **{**known, **more})  # type: ignore[arg-type]


def told(found: Traffic) -> dict[tuple[str, str], float]:
    """Values by name and by the labels behind those of the model."""
    registry = CollectorRegistry()
    registry.register(found)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (
            sample.name,
            "|".join(value for name, value in sorted(sample.labels.items()) if name not in ("model", "version")),
        ): (sample.value)
        for family in families
        for sample in family.samples
    }


def test_windows_add_up() -> None:
    """Over replicas and times; each counts once, evaluations do not."""
    found = Traffic()
    found.see("j1", [window(1, [0.1, 0.2], errors={"E": 1}), window(2, [0.3])])
    found.see("j2", [window(1, [0.4])])
    found.see("j1", [window(1, [0.1, 0.2]), window(9, [9.0], split="test")])
    values = told(found)
    assert values["looptap_serving_requests_total", "POST /p"] == 4
    assert values["looptap_serving_errors_total", "POST /p|E"] == 1
    assert values["looptap_serving_latency_seconds_count", "POST /p|total"] == 4
    assert values["looptap_serving_latency_seconds_sum", "POST /p|total"] == pytest.approx(1.0)


def test_classic_buckets_are_exact() -> None:
    """Each bound of them is one of the histogram's own."""
    chance = random.Random(1)
    times = [*(chance.lognormvariate(-4, 2) for _ in range(5_000)), 1.0, 0.5, 2.0**-14, 0.0, 1e6]
    found = Traffic()
    found.see("j", [window(1, times)])
    values = told(found)
    for bound in BOUNDS:
        key = ("looptap_serving_latency_seconds_bucket", f"POST /p|{bound!r}|total")
        assert values[key] == sum(time <= bound for time in times)
    assert values["looptap_serving_latency_seconds_bucket", "POST /p|+Inf|total"] == len(times)


def test_endpoints_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are counted as one from some number on; nothing is lost."""
    monkeypatch.setattr(traffic, "MOST_KEYS", 3)
    found = Traffic()
    found.see("j", [window(at, [0.1], endpoint=f"GET /{at}") for at in range(10)])
    values = told(found)
    assert {labels: value for (name, labels), value in values.items() if name.endswith("requests_total")} == {
        "GET /0": 1,
        "GET /1": 1,
        "GET /2": 1,
        "other": 7,
    }


def test_it_does_not_remember_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "_REMEMBERED", 2)
    found = Traffic()
    for at in (1, 2, 3, 3, 1):
        found.see("j", [window(at, [0.1])])
    assert told(found)["looptap_serving_requests_total", "POST /p"] == 4


def test_runs_of_neighbours() -> None:
    """As Prometheus has them."""
    assert spans(Counter()) == ([], [])
    assert spans(Counter({-33: 5, -32: 2, 0: 7, 1: 7, 5: 1})) == ([(-32, 2), (31, 2), (3, 1)], [5, -3, 5, 0, -6])
