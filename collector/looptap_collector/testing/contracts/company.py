"""Several collectors on one store: ``reopen`` gives a second, independent connection, as another process would have."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np

from looptap.events import Artifact, Param, Tag
from looptap_collector.backend import Arrival, Backend, NotYours, Outcome
from looptap_collector.testing.batches import Journal, points, started, told, write

Reopen: TypeAlias = Callable[[], Backend]


class CompanyContract:
    def test_another_process_sees_what_was_written(self, backend: Backend, reopen: Reopen) -> None:
        """What one has written, the other reads, and can go on with."""
        journal = Journal()
        write(backend, journal.batch(started(), series=[points("x", [1], [1.0])]))
        other = reopen()
        assert other.position("j1") == journal.next
        write(other, journal.batch(series=[points("x", [2], [2.0])]))
        assert told(backend.history("r1", "x", {})) == {"steps": [1, 2], "values": [1.0, 2.0]}

    def test_several_writers_of_one_series(self, backend: Backend, reopen: Reopen) -> None:
        """Journals of one run that write the same series at once lose nothing and count right."""
        writers, rounds, each = 4, 25, 90
        write(backend, Journal("first").batch(started()))
        stores = [backend, backend, reopen(), reopen()]

        def write_all(number: int) -> None:
            journal = Journal(f"j{number}")
            for turn in range(rounds):
                steps = np.arange(each) + (turn * writers + number) * each
                write(stores[number], journal.batch(series=[points("x", steps, steps * 1.0)]))

        with ThreadPoolExecutor(writers) as pool:
            list(pool.map(write_all, range(writers)))
        total = writers * rounds * each
        assert backend.history("r1", "x", {}).steps.tolist() == list(range(total))
        (row,) = backend.series(["r1"])
        assert (row.count, row.first_step, row.last_step, row.last) == (total, 0, total - 1, total - 1.0)
        assert sum(entry.stored for entry in backend.delivery("r1")) == total + 1

    def test_one_batch_through_two_doors(self, backend: Backend, reopen: Reopen) -> None:
        """A retry that reaches another collector while the first is still at work: one stores it, the other finds it
        there. The same with the first batch of a run, and with two starts of one run under two owners."""
        doors = [backend, reopen(), reopen()]
        pool = ThreadPoolExecutor(len(doors))
        for turn in range(20):
            run = f"r{turn}"
            journal = Journal(f"j{turn}", run)
            first = journal.batch(
                started(run, experiment=f"e{turn // 5}"), Artifact("a", 1, 1, digest=f"{turn // 3:064}")
            )
            second = journal.batch(Param("p", 1, "user", 1), series=[points("x", range(300), [0.5] * 300)])
            for batch in (first, second):
                outcomes = list(pool.map(lambda door, batch=batch: write(door, batch), doors))
                assert sorted(outcome.value for outcome in outcomes) == ["duplicate", "duplicate", "stored"]
            assert told(backend.history(run, "x", {}))["steps"] == list(range(300))
            assert len(backend.params(run, revisions=True)) == len(backend.artifacts(run)) == 1

            def start(number: int, turn: int = turn) -> object:
                batch = Journal(f"o{turn}-{number}", f"o{turn}").batch(started(f"o{turn}"))
                return doors[number].write([Arrival(batch, f"owner-{number}")])[0]

            answers = list(pool.map(start, range(len(doors))))
            assert answers.count(Outcome.STORED) == 1
            assert sum(isinstance(answer, NotYours) for answer in answers) == len(doors) - 1
        pool.shutdown()

    def test_groups_that_cross(self, backend: Backend, reopen: Reopen) -> None:
        """Collectors that write to the same runs in opposite orders wait for each other and lose nothing."""
        runs = [f"r{number}" for number in range(6)]
        backend.write([Arrival(Journal(f"s-{run}", run).batch(started(run))) for run in runs])
        stores = [backend, reopen(), reopen()]

        def write_all(number: int) -> None:
            journals = [Journal(f"{number}-{run}", run) for run in runs]
            for turn in range(10):
                random.Random(f"{number} {turn}").shuffle(journals)
                shared = [Tag("who", str(number), turn), Artifact("a", 1, 1, digest=f"{number}{turn:063}")]
                batches = [journal.batch(*shared, series=[points("x", [turn], [1.0])]) for journal in journals]
                assert stores[number].write([Arrival(batch) for batch in batches]) == [Outcome.STORED] * len(runs)

        with ThreadPoolExecutor(len(stores)) as pool:
            list(pool.map(write_all, range(len(stores))))
        assert [row.count for row in backend.series(runs)] == [30] * len(runs)
        assert [len(backend.artifacts(run)) for run in runs] == [30] * len(runs)
