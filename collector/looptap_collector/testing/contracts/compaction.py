"""What a compaction does on a backend that keeps points in chunks, as those in SQL do."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from looptap_collector.backend import Backend, Compaction
from looptap_collector.testing.batches import Journal, points, started, write
from looptap_collector.testing.contracts.company import Reopen
from looptap_collector.testing.contracts.long_series import assert_same, tell


class CompactionContract:
    def test_a_compaction_is_of_one_run_or_of_all(self, backend: Backend) -> None:
        """Each is looked at by itself, those of few chunks only when asked for."""
        runs = [tell(backend, [3_000] * count, "ascending", count) for count in (4, 2, 3)]
        assert backend.compact(run="nobody") == Compaction()
        assert backend.compact(run=runs[0].run, at_least=5) == Compaction()
        done = backend.compact(run=runs[0].run, at_least=4)
        assert (done.series, done.merged, done.made, done.points, done.outlines) == (1, 4, 1, 12_000, 1)
        done = backend.compact()
        assert (done.series, done.merged, done.made, done.points, done.outlines) == (2, 5, 2, 15_000, 1)

    def test_a_compaction_ends_in_time(self, backend: Backend) -> None:
        """With no time it does nothing and says so; what it leaves is for the next one."""
        known = tell(backend, [3_000] * 4, "ascending", 1)
        assert backend.compact(within_s=0) == Compaction(is_complete=False)
        assert backend.compact().made == 1
        assert backend.compact(within_s=0) == Compaction()
        assert_same(backend.history(known.run, "x", {}), known.history)

    def test_compaction_beside_writers_and_readers(self, backend: Backend, reopen: Reopen) -> None:
        """While one writes, two compact and one reads: no reader sees a point missing, and in the end all are there."""
        journal = Journal()
        write(backend, journal.batch(started()))
        stores = [reopen(), reopen(), reopen()]
        is_done = threading.Event()

        def compact(store: Backend) -> int:
            made = 0
            while not is_done.is_set():
                made += store.compact(run="r1").made
            return made

        def read(store: Backend) -> int:
            seen = -1
            while not is_done.is_set():
                whole = store.history("r1", "x", {})
                assert len(whole.steps) == whole.steps[-1] + 2
                for history in (whole, store.chart("r1", "x", {}, points=8)):
                    assert (history.steps[0], history.values.max()) == (-1, history.steps[-1])
                    assert seen <= history.steps[-1]
                    seen = int(history.steps[-1])
            return seen

        def write_all() -> None:
            try:
                for turn in range(60):
                    steps = np.arange(turn * 2_500, turn * 2_500 + 2_500)
                    write(backend, journal.batch(series=[points("x", steps, steps * 1.0)]))
            finally:
                is_done.set()

        write(backend, journal.batch(series=[points("x", [-1], [-1.0])]))
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(compact, stores[0]), pool.submit(compact, stores[1]), pool.submit(read, stores[2])]
            pool.submit(write_all).result()
            made, also_made, seen = [job.result() for job in jobs]
        assert made + also_made > 0
        assert seen > 0
        history = backend.history("r1", "x", {})
        assert history.steps.tolist() == list(range(-1, 150_000))
        assert backend.compact(run="r1").is_complete
        assert_same(backend.history("r1", "x", {}), history)

    def test_a_deleted_run_takes_its_outlines_along(self, backend: Backend) -> None:
        """A run of the same name that comes later has only its own points."""
        known = tell(backend, [9_000] * 3, "ascending", 1)
        assert backend.compact().outlines == 1
        assert backend.delete_run(known.run)
        journal = Journal(known.run, known.run)
        write(backend, journal.batch(started(known.run), series=[points("x", range(9_000), [1.0] * 9_000)]))
        chart = backend.chart(known.run, "x", {}, points=8)
        assert set(chart.values.tolist()) == {1.0}
        assert backend.compact().outlines == 1
        assert chart.steps[-1] == backend.chart(known.run, "x", {}, points=8).steps[-1] == 8_999
