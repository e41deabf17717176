"""Windows of a process merged into few: what they come to is the same to the bit."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from looptap.events import Example, Window
from looptap.sketches.distribution import MOST_CLASSES, MOST_CLASSES_OF_MANY, Distribution, decode
from looptap.sketches.histogram import MOST_VALUES, Histogram
from looptap.sketches.sampling import MOST_EXAMPLES, sampled
from looptap_collector.backend import RunWindow
from looptap_collector.long_windows import merged
from looptap_collector.serving.summary import Summary, summed
from looptap_collector.window_checks import PARTS

SECOND = 10**9
COUNTS = ("requests", "errors", "shapes", "skipped", "replicas", "runs", "in_flight_max")
FACTS = ("digest", "weights", "first_ns", "last_ns")
STREAMS = ("predictions", "outcomes", "labels", "features")

counts = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), max_size=3)
# A sum beyond the range of a float is infinite for good, in whatever order.
finite = st.floats(-1e300, 1e300)
numbers = st.lists(finite, max_size=5)


@st.composite
def distributions(draw: st.DrawFn) -> bytes:
    made = Distribution(*draw(st.sampled_from([(0.0, 1.0), (4.0, 0.5)])))
    made.add_numbers(draw(st.lists(finite | st.sampled_from([nan, inf, -inf]), max_size=5)))
    made.add_classes(draw(st.lists(st.sampled_from("xyz"), max_size=4)))
    return made.encode()


@st.composite
def histograms(draw: st.DrawFn) -> bytes:
    made = Histogram()
    made.add(draw(numbers))
    return made.encode()


streams = st.dictionaries(st.sampled_from(["class", "score"]), distributions(), max_size=2)
windows = st.builds(
    Window,
    model=st.just("m"),
    time_ns=st.integers(-60, 60).map(lambda number: number * 10 * SECOND),
    seconds=st.sampled_from([10.0, 10.0, 3.3]),
    digest=st.sampled_from([None, "ab" * 32, "cd" * 32]),
    weights=st.sampled_from([None, "ef" * 32]),
    requests=st.integers(0, 3),
    errors=counts,
    in_flight=st.floats(0, 5),
    in_flight_max=st.integers(0, 3),
    latency=st.dictionaries(st.sampled_from(["total", "model"]), histograms(), max_size=2),
    batch=st.none() | histograms(),
    shapes=counts,
    skipped=counts,
    resources=st.fixed_dictionaries({"rss": st.floats(1e-3, 1e9), "cpu": st.floats(1e-3, 1e9)}),
    examples=st.lists(st.builds(Example, st.floats(0, 1), st.just(1), st.just({})), max_size=20).map(sampled),
    **dict.fromkeys(STREAMS, streams),
)


def together(told: list[Window]) -> Summary:
    """The latest first, as stores give them."""
    return summed(RunWindow("r", "j", one) for one in sorted(told, key=lambda one: -one.time_ns))


def exact(found: Summary) -> dict[str, Any]:
    return {
        **{name: getattr(found, name) for name in COUNTS + FACTS},
        "endpoints": {name: (one.requests, one.errors, one.total.encode()) for name, one in found.endpoints.items()},
        "latency": {part: one.encode() for part, one in found.latency.items()},
        "batch": found.batch.encode(),
        **{
            kind: {
                name: {frame: part.encode() for frame, part in one._parts.items()}
                for name, one in getattr(found, kind).items()
            }
            for kind in STREAMS
        },
        "peaks": {name: peak for name, (_, peak) in found.resources.items()},
    }


def draws(told: list[Window]) -> list[float]:
    """Of the sample of all of their calls."""
    return [example.draw for example in sampled(example for one in told for example in one.examples)]


@settings(max_examples=50)
@given(st.lists(windows, max_size=12, unique_by=lambda one: one.time_ns), st.integers(1, 6))
def test_they_come_to_the_same(told: list[Window], at_once: int) -> None:
    """At once, or some first and these with the others later; each has the time of one of them, and no time twice."""
    told.sort(key=lambda one: one.time_ns)
    some = [one for at in range(0, len(told), at_once) for one in merged(told[at : at + at_once])]
    before = together(told)
    for found in (merged(told), merged(some)):
        after = together(found)
        assert exact(after) == exact(before)
        assert after.in_flight == (None if before.in_flight is None else pytest.approx(before.in_flight))
        means = [{name: mean for name, (mean, _) in one.resources.items()} for one in (before, after)]
        assert means[1] == pytest.approx(means[0])
        times = [one.time_ns for one in found]
        assert len(set(times)) == len(times)
        assert {*times} <= {one.time_ns for one in told}
        assert sum(one.windows for one in found) == len(told)
        assert draws(found) == draws(told)
        assert all(len(one.examples) <= MOST_EXAMPLES for one in found)
        assert merged(found) == sorted(found, key=lambda one: one.time_ns)


def asked(time: int, **more: Any) -> Window:
    return Window("m", time * 10 * SECOND, 10.0, requests=1, **more)


def classes(names: list[str]) -> dict[str, bytes]:
    made = Distribution()
    made.add_classes(names)
    return {"class": made.encode()}


def test_many_classes() -> None:
    """More than one window tells are all kept; of more than a store keeps, the rarest are counted as others."""
    few = [asked(at, predictions=classes([f"{at} {name}" for name in range(MOST_CLASSES)])) for at in range(10)]
    (one,) = merged(few)
    assert len(decode(one.predictions["class"]).classes) == 10 * MOST_CLASSES
    many = [asked(at, predictions=classes([f"{at} {name}" for name in range(MOST_CLASSES)])) for at in range(17)]
    (one,) = merged([*many, asked(99, predictions=classes(["9 0", "16 255"]))])
    found = decode(one.predictions["class"])
    assert (len(found.classes), found.other) == (MOST_CLASSES_OF_MANY, 17 * MOST_CLASSES - MOST_CLASSES_OF_MANY)
    assert (found.classes["9 0"], found.classes["16 255"], len(found)) == (2, 2, 17 * MOST_CLASSES + 2)


def test_many_kinds() -> None:
    """Of errors and shapes as many as a window may have."""
    (one,) = merged([asked(at, errors={f"E{at}": 1 + (at == 299), "other": 1}) for at in range(300)])
    assert (len(one.errors), sum(one.errors.values())) == (PARTS - 1, 601)
    assert (one.errors["E299"], one.errors["other"]) == (2, 300 + 300 - (PARTS - 2))
    several = [
        asked(at, predictions={f"{at} {name}": classes(["x"])["class"] for name in range(100)}) for at in range(5)
    ]
    assert [one.windows for one in merged(several)] == [2, 2, 1]


def test_more_values_than_can_be_read_again() -> None:
    """Begin another window."""
    full = Distribution()
    full.other = MOST_VALUES - 1
    told = [asked(at, predictions={"class": full.encode()}) for at in range(3)]
    assert merged(told) == told


def test_a_sketch_that_is_none() -> None:
    with pytest.raises(ValueError):
        merged([asked(1), asked(2, latency={"total": b"?"})])
