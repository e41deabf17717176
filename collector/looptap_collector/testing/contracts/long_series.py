"""Series that are long: bounds, charts, and compaction, which changes no point."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from looptap.events import RunEnded, SeriesPoints
from looptap_collector.backend import Backend, Compaction, History
from looptap_collector.testing.batches import Journal, points, same_bits, started, told, write

Steps: TypeAlias = npt.NDArray[np.int64]
Bounds: TypeAlias = tuple[int, int] | None
ODD = [float("nan"), float("inf"), float("-inf")]

SHARED_STORE = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.differing_executors,
    ],
)
SIZES = st.lists(st.sampled_from([1, 40, 700, 2_048, 2_500, 5_000, 9_000, 70_000]), min_size=1, max_size=7)
ORDERS = st.sampled_from(["ascending", "overlapping", "descending", "shuffled", "one step", "far apart"])


def steps_in(order: str, count: int, random: np.random.Generator) -> Steps:
    """Steps as some program may count them, in order of arrival."""
    steps = np.arange(count, dtype=np.int64)
    if order == "overlapping":  # two processes that count for themselves
        steps = np.where(steps % 2_000 < 1_000, steps, steps - 5_000)
    elif order == "descending":
        steps = steps[::-1].copy()
    elif order == "shuffled":
        random.shuffle(steps)
    elif order == "one step":
        steps = np.full(count, -3, dtype=np.int64)
    elif order == "far apart":
        steps = steps * (2**62 // count) - 2**61
    return steps


def values_with_odd_ones(count: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    values = random.normal(size=count).cumsum()
    for odd in ODD:
        values[random.integers(0, count, random.integers(0, 3))] = odd
    values[random.integers(0, count, 2)] = (-1e300, 1e300)
    return values


def assert_thinned(chart: History, whole: History, limit: int) -> None:
    """The promises of thinning, against all points."""
    assert len(chart.steps) <= limit
    if len(whole.steps) <= limit:
        assert all(same_bits(*pair) for pair in zip(columns(chart), columns(whole), strict=True))
        return
    rows, all_rows = ([row.tobytes() for row in table(history)] for history in (chart, whole))
    places = iter(all_rows)
    assert all(row in places for row in rows), "real points, each once, in their order"
    assert (rows[0], rows[-1]) == (all_rows[0], all_rows[-1])
    for kind in (np.isnan, np.isposinf, np.isneginf):
        assert kind(chart.values).any() == kind(whole.values).any()
    kept, finite = (history.values[np.isfinite(history.values)] for history in (chart, whole))
    if len(finite):
        assert (kept.min(), kept.max()) == (finite.min(), finite.max())


def columns(history: History) -> tuple[npt.NDArray[Any], ...]:
    return history.steps, history.times_ns, history.values


def table(history: History) -> npt.NDArray[np.int64]:
    return np.stack([history.steps, history.times_ns, history.values.view(np.int64)], axis=1)


def between(history: History, bounds: Bounds) -> History:
    if bounds is None:
        return history
    inside = (history.steps >= bounds[0]) & (history.steps <= bounds[1])
    return History(*(column[inside] for column in columns(history)))


class Told(NamedTuple):
    """A run of its own in a store that examples share, and all points that it told, in order."""

    run: str
    journal: Journal
    history: History


def tell(backend: Backend, sizes: list[int], order: str, seed: int, compact_at: int | None = None) -> Told:
    """The series ``x`` in pieces of these sizes, with a compaction behind one of them."""
    random = np.random.default_rng(seed)
    count = sum(sizes)
    steps, values = steps_in(order, count, random), values_with_odd_ones(count, random)
    run = uuid.uuid4().hex
    journal = Journal(run, run)
    write(backend, journal.batch(started(run)))
    start = 0
    for number, size in enumerate(sizes):
        piece = slice(start, start + size)
        write(backend, journal.batch(series=[points("x", steps[piece], values[piece])]))
        start += size
        if number == compact_at:
            backend.compact(run=run)
    by_step = np.argsort(steps, kind="stable")
    times_ns = np.frombuffer(points("x", steps, values).times_ns, "<i8")
    return Told(run, journal, History(steps[by_step], times_ns[by_step], values[by_step]))


def assert_same(one: History, other: History) -> None:
    assert all(same_bits(*pair) for pair in zip(columns(one), columns(other), strict=True))


class LongSeriesContract:
    @SHARED_STORE
    @given(SIZES, ORDERS, st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(7, 400), st.data())
    def test_charts_keep_what_thinning_keeps(
        self,
        backend: Backend,
        sizes: list[int],
        order: str,
        seed: int,
        compact_at: int,
        limit: int,
        data: st.DataObject,
    ) -> None:
        """Whatever mix of small, full and long chunks, with steps in any order: a chart between any bounds holds first,
        last, extremes and every kind of odd value of just these points; and the history is exact."""
        known = tell(backend, sizes, order, seed, compact_at)
        steps = known.history.steps.tolist()
        for _ in range(2):
            ends = st.sampled_from(steps) | st.integers(-(2**63), 2**63 - 1)
            bounds = data.draw(st.none() | st.tuples(ends, ends))
            expected = between(known.history, bounds)
            assert_same(backend.history(known.run, "x", {}, steps=bounds), expected)
            assert_thinned(backend.chart(known.run, "x", {}, points=limit, steps=bounds), expected, limit)
            backend.compact(run=known.run)

    @SHARED_STORE
    @given(SIZES, ORDERS, st.integers(0, 2**32 - 1), st.integers(0, 6))
    def test_compaction_changes_no_point(
        self, backend: Backend, sizes: list[int], order: str, seed: int, compact_at: int
    ) -> None:
        """Before, between and after, the history and the summary are the same, and the series goes on; a second
        compaction finds nothing to do."""
        known = tell(backend, sizes, order, seed, compact_at)
        summary = backend.series([known.run])
        assert backend.compact(run=known.run).is_complete
        assert backend.compact(run=known.run) == Compaction()
        assert_same(backend.history(known.run, "x", {}), known.history)
        assert backend.series([known.run]) == summary or np.isnan(summary[0].last)
        highest = 2**63 - 1
        column = np.full(3_000, highest)
        more = SeriesPoints("x", {}, column.tobytes(), column.tobytes(), np.arange(3_000.0).tobytes())
        write(backend, known.journal.batch(series=[more]))
        write(backend, known.journal.batch(RunEnded("finished", 1)))
        backend.compact(run=known.run)
        longer = backend.history(known.run, "x", {})
        assert longer.values[-3_000:].tolist() == list(range(3_000))
        assert_same(History(*(column[:-3_000] for column in columns(longer))), known.history)

    def test_bounds_are_included(self, backend: Backend) -> None:
        """Between two steps means with both; nothing lies between a later and an earlier one."""
        write(backend, Journal().batch(started(), series=[points("x", [3, 1, 2, 3, 5], [0.0, 1.0, 2.0, 3.0, 4.0])]))
        assert told(backend.history("r1", "x", {}, steps=(2, 3))) == {"steps": [2, 3, 3], "values": [2.0, 0.0, 3.0]}
        assert told(backend.chart("r1", "x", {}, points=7, steps=(4, 9))) == {"steps": [5], "values": [4.0]}
        for nothing in ((4, 4), (3, 1), (6, 2**63 - 1)):
            assert told(backend.history("r1", "x", {}, steps=nothing)) == {"steps": [], "values": []}
            assert told(backend.chart("r1", "x", {}, points=7, steps=nothing)) == {"steps": [], "values": []}

    def test_a_chart_knows_nothing_beyond_its_bounds(self, backend: Backend) -> None:
        """Bounds inside of a long chunk and at its very ends: a spike on one side hides none on the other."""
        journal = Journal()
        write(backend, journal.batch(started()))
        steps = np.arange(300_000)
        values = np.zeros(len(steps))
        values[[30_000, 270_009]] = 9.0
        values[[30_001, 270_007]] = 5.0
        values[[29_999, 270_010]] = float("nan")
        for start in range(0, 300_000, 60_000):
            piece = slice(start, start + 60_000)
            write(backend, journal.batch(series=[points("x", steps[piece], values[piece])]))
        backend.compact()
        whole = backend.history("r1", "x", {})
        for bounds in ((30_001, 270_008), (30_000, 270_009), (29_999, 270_010), (59_999, 240_000), (60_000, 239_999)):
            expected = between(whole, bounds)
            assert_same(backend.history("r1", "x", {}, steps=bounds), expected)
            assert_thinned(backend.chart("r1", "x", {}, points=9, steps=bounds), expected, 9)

    def test_what_no_chart_can_be_made_of(self, backend: Backend) -> None:
        """A series that is not there, and fewer points than must be kept."""
        write(backend, Journal().batch(started(), series=[points("x", [1], [1.0])]))
        with pytest.raises(KeyError, match="no series"):
            backend.chart("r1", "y", {}, points=100)
        with pytest.raises(ValueError, match="at least 7"):
            backend.chart("r1", "x", {}, points=6)
