"""Points are exact to the bit, however they are cut into batches, and so are their summaries."""

from __future__ import annotations

import math
import struct
import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from looptap.events import RunEnded, SeriesPoints
from looptap_collector.backend import Backend
from looptap_collector.testing.batches import START_NS, Journal, points, same_bits, started, told, write

STRANGE = [float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 5e-324, 1.7976931348623157e308]


class PointContract:
    def test_values_are_exact(self, backend: Backend) -> None:
        """NaN with its payload, infinities, the negative zero and the ends of the range are stored to the
        bit."""
        payload = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_DEAD_BEEF))[0]
        values = np.array([*STRANGE, payload])
        write(backend, Journal().batch(started(), series=[points("loss", range(len(values)), values)]))
        history = backend.history("r1", "loss", {})
        assert same_bits(history.values, values)
        assert history.times_ns.tolist() == [START_NS + step * 1_000_000 for step in range(len(values))]

    @pytest.mark.parametrize("value", STRANGE)
    def test_summary_is_exact(self, backend: Backend, value: float) -> None:
        """One strange value is the last one to the bit, and an extreme unless it is NaN."""
        write(backend, Journal().batch(started(), series=[points("loss", [4], [value])]))
        (row,) = backend.series(["r1"])
        assert struct.pack("<d", row.last) == struct.pack("<d", value)
        assert (row.count, row.nan_count, row.first_step, row.last_step) == (1, math.isnan(value), 4, 4)
        expected = None if math.isnan(value) else value
        assert (row.min, row.max) == (expected, expected)

    def test_summary_runs_over_batches(self, backend: Backend) -> None:
        """Counts add up; ``last`` is of the highest step, the latest among equals; extremes leave NaN out."""
        nan = float("nan")
        journal = Journal()
        write(backend, journal.batch(started(), series=[points("loss", [5, 6], [nan, nan])]))
        write(backend, journal.batch(series=[points("loss", [9, 9, 2], [1.0, 3.0, -4.0])]))
        write(backend, journal.batch(series=[points("loss", [-7], [8.0])]))
        (row,) = backend.series(["r1"])
        assert (row.count, row.nan_count, row.first_step, row.last_step) == (6, 2, -7, 9)
        assert (row.last, row.min, row.max, row.last_time_ns) == (3.0, -4.0, 8.0, START_NS + 9_000_000)
        write(backend, journal.batch(series=[points("loss", [9], [7.5])]))
        assert backend.series(["r1"])[0].last == 7.5

    def test_steps_in_any_order(self, backend: Backend) -> None:
        """Points come back by step, those of one step in the order in which they arrived."""
        journal = Journal()
        write(backend, journal.batch(started(), series=[points("x", [3, 1, 3], [0.0, 1.0, 2.0])]))
        write(backend, journal.batch(series=[points("x", [3, -2, 1], [3.0, 4.0, 5.0])]))
        assert told(backend.history("r1", "x", {})) == {
            "steps": [-2, 1, 1, 3, 3, 3],
            "values": [4.0, 1.0, 5.0, 0.0, 2.0, 3.0],
        }

    def test_extreme_steps(self, backend: Backend) -> None:
        """The ends of the 64-bit range are steps like any other."""
        lowest, highest = -(2**63), 2**63 - 1
        columns = np.array([highest, 0, lowest])
        series = SeriesPoints("x", {}, columns.tobytes(), columns.tobytes(), np.array([1.0, 2.0, 3.0]).tobytes())
        write(backend, Journal().batch(started(), series=[series]))
        assert told(backend.history("r1", "x", {})) == {"steps": [lowest, 0, highest], "values": [3.0, 2.0, 1.0]}
        (row,) = backend.series(["r1"])
        assert (row.first_step, row.last_step, row.last) == (lowest, highest, 1.0)

    def test_contexts_are_series_of_their_own(self, backend: Backend) -> None:
        """The same key in two contexts is two series; the order of a context's items means nothing."""
        write(
            backend,
            Journal().batch(
                started(),
                series=[
                    points("loss", [1], [1.0]),
                    points("loss", [1], [2.0], {"rank": "1", "phase": "test"}),
                    points("loss", [2], [3.0], {"phase": "test", "rank": "1"}),
                    points("acc", [1], [4.0]),
                ],
            ),
        )
        assert [(row.key, row.context, row.count) for row in backend.series(["r1"])] == [
            ("acc", {}, 1),
            ("loss", {"phase": "test", "rank": "1"}, 2),
            ("loss", {}, 1),
        ]
        assert told(backend.history("r1", "loss", {"rank": "1", "phase": "test"}))["values"] == [2.0, 3.0]
        with pytest.raises(KeyError, match="no series"):
            backend.history("r1", "loss", {"rank": "2"})

    def test_many_series_in_one_batch(self, backend: Backend) -> None:
        """More series than an engine takes parameters in one statement."""
        names = [f"metric_{number:05}" for number in range(1_700)]
        journal = Journal()
        write(backend, journal.batch(started(), series=[points(name, [1], [1.0]) for name in names]))
        write(backend, journal.batch(series=[points(name, [2], [2.0]) for name in names]))
        rows = backend.series(["r1"])
        assert [row.key for row in rows] == names
        assert {(row.count, row.last) for row in rows} == {(2, 2.0)}

    @settings(
        max_examples=20,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.differing_executors,
        ],
    )
    @given(st.lists(st.integers(1, 3_000), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
    def test_pieces_of_any_size_make_the_same_series(self, backend: Backend, sizes: list[int], seed: int) -> None:
        """However the points are cut into batches, before and after the end of the run, the series is the
        same."""
        # Every example needs a run of its own in the store that they share.
        run = uuid.uuid4().hex
        journal = Journal(run, run)
        write(backend, journal.batch(started(run)))
        steps = np.random.default_rng(seed).integers(0, 50, sum(sizes))
        values = np.arange(len(steps), dtype=np.float64)
        start = 0
        for size in sizes:
            piece = slice(start, start + size)
            write(backend, journal.batch(series=[points("x", steps[piece], values[piece])]))
            start += size
        order = np.argsort(steps, kind="stable")
        for _ in range(2):
            history = backend.history(run, "x", {})
            assert same_bits(history.values, values[order])
            assert same_bits(history.steps, steps[order])
            write(backend, journal.batch(RunEnded("finished", 1)))
