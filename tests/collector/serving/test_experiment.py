"""Two versions by the traffic that they had."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from collector.recorded import START_NS
from collector.serving.serving_runs import NEXT, NOW_NS, SECOND, VERSION, Serving, classes, histogram, numbers, window
from looptap_collector.backend import Backend
from looptap_collector.serving.experiment import Experiment, Measured, NoVersions, experiment


def serve(backend: Backend, version: str | None = VERSION, first: int = 900, slower: float = 1.0, **more: Any) -> None:
    """Five minutes of one replica."""
    run = Serving(backend, f"server {version} {first}", start_ns=START_NS + first)
    chance = np.random.default_rng(len(version or "") + first)
    for ago in range(first, first - 300, -10):
        times = (slower * chance.gamma(5, 0.001, 1_000)).tolist()
        known: dict[str, Any] = {"latency": {"total": histogram(times).encode()}, "requests": 1_000}
        run.windows(window(ago, version=version, seed=7, **known | more))


def compared(backend: Backend, **how: Any) -> Experiment:
    return experiment(backend, "intent", since_ns=NOW_NS - 3_600 * SECOND, until_ns=NOW_NS, **how)


def measured(found: Experiment) -> dict[str, Measured]:
    return {one.name: one for one in found.measured}


def test_the_same(backend: Backend) -> None:
    """Two versions that do not differ, asked at once: nothing is worse, and that is known."""
    serve(backend, errors={"E": 5})
    serve(backend, NEXT, first=890, errors={"E": 5})
    found = compared(backend)
    assert (found.first.version, found.second.version, found.at_once) == (VERSION, NEXT, True)
    assert found.first.share == pytest.approx(0.5, abs=0.02)
    assert measured(found)["latency total p50"].verdict == "same"
    assert measured(found)["errors"].verdict in ("same", "open")
    assert found.verdict in ("same", "open")
    assert {one.stream: one.comparison.verdict for one in found.streams} == {"class": "same", "score": "same"}


def test_a_canary_that_is_worse(backend: Backend) -> None:
    """In errors and in latency: by how much, and how sure that is."""
    serve(backend, errors={"E": 1})
    serve(backend, NEXT, first=890, slower=1.3, errors={"E": 20})
    found = compared(backend)
    told = measured(found)
    assert found.verdict == "worse"
    errors = told["errors"]
    assert errors.verdict == "worse"
    assert errors.difference.value == pytest.approx(0.019)
    assert errors.difference.low > 0.015
    latency = told["latency total p90"]
    assert (latency.verdict, latency.is_relative, latency.unit) == ("worse", True, "seconds")
    assert latency.difference.low < 0.3 < latency.difference.high


def test_one_that_is_better(backend: Backend) -> None:
    serve(backend, errors={"E": 20})
    serve(backend, NEXT, first=890, slower=0.7, errors={"E": 1})
    assert compared(backend).verdict == "better"


def test_outcomes(backend: Backend) -> None:
    """Accuracy, and how far numbers were off, where labels became known."""
    size = np.random.default_rng(1).normal(0, 1, 100)
    serve(backend, outcomes={"correct": classes(yes=90, no=10).encode(), "error": numbers(size.tolist()).encode()})
    worse = {"correct": classes(yes=80, no=20).encode(), "error": numbers((2 * size).tolist()).encode()}
    serve(backend, NEXT, first=890, outcomes=worse)
    told = measured(compared(backend))
    accuracy = told["outcome correct"]
    assert (accuracy.first.value, accuracy.second.value, accuracy.verdict) == (0.9, 0.8, "worse")
    off = told["outcome error, mean size"]
    assert off.verdict == "worse"
    assert off.second.value == pytest.approx(2 * off.first.value, rel=0.02)
    assert off.first.value == pytest.approx(float(np.abs(size).mean()), rel=0.02)


def test_outcomes_that_become_known_later(backend: Backend) -> None:
    """By another process: they say nothing of when a version was asked, and count for it all the same."""
    serve(backend, first=2_000)
    serve(backend, NEXT)
    for version, right in ((VERSION, 90), (NEXT, 60)):
        told = {"correct": classes(yes=right, no=100 - right).encode()}
        serve(backend, version, first=2_500, requests=0, latency={}, predictions={}, endpoint="", outcomes=told)
    found = compared(backend)
    assert not found.at_once
    assert (found.first.version, found.second.version) == (VERSION, NEXT)
    assert measured(found)["outcome correct"].verdict == "worse"
    assert {"errors", "latency total p50"} <= set(measured(found))


def test_outcomes_of_two_that_were_asked_at_once(backend: Backend) -> None:
    """Count whenever they became known, also outside of the time that both were asked in."""
    for version, right in ((VERSION, 90), (NEXT, 60)):
        serve(backend, version)
        told = {"correct": classes(yes=right, no=100 - right).encode()}
        serve(backend, version, first=400, requests=0, latency={}, predictions={}, endpoint="", outcomes=told)
    found = compared(backend, first=VERSION, second=NEXT)
    assert found.at_once
    assert measured(found)["outcome correct"].verdict == "worse"


def test_only_the_time_of_both_counts(backend: Backend) -> None:
    """What one of them was asked before the other came says nothing about them."""
    serve(backend, first=2_000, errors={"E": 500})
    serve(backend, first=900)
    serve(backend, NEXT, first=880)
    found = compared(backend)
    assert found.at_once
    assert found.first.requests == 28_000
    assert measured(found)["errors"].first.value == 0


def test_one_after_the_other(backend: Backend) -> None:
    """Is said."""
    serve(backend, first=2_000)
    serve(backend, NEXT)
    found = compared(backend)
    assert not found.at_once
    assert found.first.requests == found.second.requests == 30_000


def test_too_few_to_tell(backend: Backend) -> None:
    """Leaves it open."""
    run = Serving(backend, "server")
    for version in (VERSION, NEXT):
        run.windows(window(20, version=version, requests=20, errors={"E": 1}))
    found = compared(backend)
    assert found.verdict == "open"
    assert measured(found)["errors"].verdict == "open"
    assert "latency total p99" not in measured(found)
    assert {one.comparison.verdict for one in found.streams} == {"too few"}


def test_which_versions(backend: Backend) -> None:
    """The two that were asked last, or those that are named, also the unknown one."""
    serve(backend, first=2_000)
    with pytest.raises(NoVersions, match=r"needs two versions.*there are: abababababab"):
        compared(backend)
    serve(backend, NEXT, first=1_500)
    serve(backend, None, first=1_000)
    found = compared(backend)
    assert (found.first.version, found.second.version) == (NEXT, None)
    found = compared(backend, first="unknown", second="ab")
    assert (found.first.version, found.second.version) == (None, VERSION)
    with pytest.raises(NoVersions, match=r"no version that begins with 'x'.*abababababab, cdcdcdcdcdcd, unknown"):
        compared(backend, first="x")
    with pytest.raises(NoVersions, match="with itself"):
        compared(backend, first="ab", second="ab")
    with pytest.raises(NoVersions, match="3 versions"):
        compared(backend, first="")
