"""Windows merged: what many processes counted is what one had counted."""

from __future__ import annotations

import random

import pytest

from collector.serving.serving_runs import NOW_NS, SECOND, VERSION, classes, histogram, numbers, window
from looptap.events import Window
from looptap_collector.backend import RunWindow
from looptap_collector.serving.summary import by_version, summed


def test_replicas_are_one() -> None:
    """A thousand windows of ten replicas, in any order: the sketches are to the bit those of all values at once."""
    chance = random.Random(1)
    times, scores, told = [], [], []
    for number in range(1_000):
        some = [chance.expovariate(100) for _ in range(5)]
        answers = [chance.gauss(0, 1) for _ in range(5)]
        times += some
        scores += answers
        window = Window(
            "m",
            number * SECOND,
            1.0,
            requests=5,
            errors={"E": 1},
            latency={"total": histogram(some).encode()},
            predictions={"score": numbers(answers).encode()},
        )
        told.append(RunWindow(f"r{number % 2}", f"j{number % 10}", window))
    chance.shuffle(told)
    found = summed(told)
    assert found.latency["total"].encode() == histogram(times).encode()
    assert found.predictions["score"].whole() == numbers(scores)
    assert (found.requests, found.failed, found.error_rate) == (5_000, 1_000, 0.2)
    assert (found.replicas, found.runs) == ({f"j{number}" for number in range(10)}, {"r0", "r1"})
    assert (found.seconds, found.per_second) == (1_000.0, 5.0)


def test_what_cannot_be_merged_is_kept_apart() -> None:
    """Replicas that count around other centers: the whole is that of most values, and it is told how many are not in it."""
    frames = [(0.0, 1.0), (5.0, 0.5), (5.0, 0.5)]
    told = [
        RunWindow("r", f"j{at}", Window("m", at, 1.0, predictions={"x": numbers([5.0] * 10, frame).encode()}))
        for at, frame in enumerate(frames)
    ]
    stream = summed(told).predictions["x"]
    assert (len(stream), len(stream.whole()), stream.apart()) == (30, 20, 10)
    assert stream.like(numbers([1.0])).numbers.center == 0.0
    assert stream.like(numbers([1.0], (9.0, 1.0))).numbers.center == 5.0


def test_what_is_under_way() -> None:
    """The mean in flight of two replicas is what both together had."""
    told = [RunWindow("r", f"j{at}", Window("m", 0, 10.0, in_flight=1.5, in_flight_max=3 + at)) for at in range(2)]
    found = summed(told)
    assert (found.in_flight, found.in_flight_max) == (3.0, 4)


def test_parts_and_endpoints() -> None:
    """Each endpoint has its own requests and times; resources are means and maxima without what is not known."""
    told = [
        RunWindow(
            "r",
            "j",
            Window(
                "m",
                at,
                10.0,
                endpoint=endpoint,
                requests=2,
                errors={"x": at},
                latency={"total": histogram([0.1 + at]).encode(), "queue": histogram([0.5]).encode()},
                shapes={"float32[*]": 2},
                skipped={"busy": 1},
                resources={"rss": 10.0 * at, "cpu": float("nan")},
            ),
        )
        for at, endpoint in enumerate(["GET /a", "GET /b", "GET /a"])
    ]
    found = summed(told)
    assert {name: (one.requests, one.errors, len(one.total)) for name, one in found.endpoints.items()} == {
        "GET /a": (4, 2, 2),
        "GET /b": (2, 1, 1),
    }
    assert {part: len(one) for part, one in found.latency.items()} == {"total": 3, "queue": 3}
    assert found.resources == {"rss": (10.0, 20.0)}
    assert (found.shapes, found.skipped) == ({"float32[*]": 6}, {"busy": 3})


def test_nothing() -> None:
    """Has no rates."""
    found = summed([])
    assert (found.requests, found.per_second, found.error_rate, found.in_flight) == (0, None, None, None)


def test_versions() -> None:
    """Each by itself, the one that was asked last first; an unknown one too."""
    told = [
        RunWindow("r", "j", Window("m", time_ns * SECOND, 1.0, version, requests=1))
        for time_ns, version in ((1, VERSION), (2, None), (3, VERSION), (5, "v2"))
    ]
    found = by_version(told)
    assert [(version, one.requests) for version, one in found.items()] == [("v2", 1), (VERSION, 2), (None, 1)]


@pytest.mark.parametrize("part", ["total", "odd"])
def test_times_around_another_center(part: str) -> None:
    """No agent counts them so; they are left out rather than merged wrongly."""
    odd = numbers([1.0], (1.0, 1.0)).numbers
    told = [
        RunWindow("r", "j", Window("m", 0, 1.0, latency={part: sketch.encode()})) for sketch in (histogram([2.0]), odd)
    ]
    assert summed(told).latency[part] == histogram([2.0])


def test_outcomes() -> None:
    told = [
        RunWindow("r", "j", Window("m", at, 1.0, outcomes={"correct": classes(yes=3, no=1).encode()}))
        for at in range(2)
    ]
    assert summed(told).outcomes["correct"].whole() == classes(yes=6, no=2)


def test_outcomes_that_another_process_tells() -> None:
    """Later, of a model that nobody asks any more: they are no requests, no replica and no time of serving."""
    asked = window(50)
    told = Window("intent", NOW_NS, 10.0, version=VERSION, outcomes={"correct": classes(yes=1).encode()})
    found = summed([RunWindow("r", "j", asked), RunWindow("other", "other", told)])
    alone = summed([RunWindow("r", "j", asked)])
    assert found.outcomes["correct"].whole() == classes(yes=1)
    for name in ("requests", "replicas", "runs", "seconds", "per_second", "last_ns", "in_flight"):
        assert getattr(found, name) == getattr(alone, name)
    assert found.endpoints.keys() == alone.endpoints.keys()
