"""What every backend on a database server must survive (case 34 of the fault matrix), as a suite beside ``BackendContract``.

The fixture ``kill_connections`` ends every connection to the database of the test; ``failing`` lets the next so many
inserts of chunks fail on the server in a way that the engine itself knows; ``through`` opens the store of the test by
another port.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from collector.backends.relay import relay
from looptap.events import Artifact, Batch, Param, Rejected
from looptap_collector.backend import Arrival, Backend, Outcome, Unavailable
from looptap_collector.testing.backend import Reopen
from looptap_collector.testing.batches import Journal, points, started, told, write


class InterruptionContract:
    def test_connections_are_killed_while_writers_go_on(
        self, backend: Backend, reopen: Reopen, kill_connections: Callable[[], None]
    ) -> None:
        """Whatever statement they are in: each batch is stored once and whole, as long as its writer tries again."""
        writers, rounds, each = 3, 60, 100
        backend.write([Arrival(Journal(f"s{number}", "r1").batch(started())) for number in range(writers)])
        stores = [backend, backend, reopen()]
        is_over = threading.Event()

        def kill() -> int:
            kills = 0
            while not is_over.wait(0.02):
                kill_connections()
                kills += 1
            return kills

        def write_all(number: int) -> list[Outcome]:
            journal = Journal(f"j{number}")
            outcomes = []
            for turn in range(rounds):
                steps = np.arange(each) + (turn * writers + number) * each
                records = [
                    Param(f"p{number}", turn, "user", turn),
                    Artifact("a", 1, 1, digest=f"{number:032}{turn:032}"),
                ]
                batch = journal.batch(*records, series=[points("x", steps, steps * 1.0)])
                outcomes.append(until_stored(stores[number], batch))
            return outcomes

        with ThreadPoolExecutor(writers + 1) as pool:
            killer = pool.submit(kill)
            try:
                # A duplicate is a batch whose commit came through although its connection broke.
                outcomes = [outcome for some in pool.map(write_all, range(writers)) for outcome in some]
            finally:
                is_over.set()
            assert killer.result() > 3
        assert len(outcomes) == writers * rounds
        reader = reopen()
        total = writers * rounds * each
        assert reader.history("r1", "x", {}).steps.tolist() == list(range(total))
        (row,) = reader.series(["r1"])
        assert (row.count, row.first_step, row.last_step) == (total, 0, total - 1)
        assert len(reader.params("r1", revisions=True)) == len(reader.artifacts("r1")) == writers * rounds
        assert sum(entry.stored for entry in reader.delivery("r1")) == total + writers * (2 * rounds + 1)

    def test_passing_failures_are_not_told(self, backend: Backend, failing: Callable[[int], None]) -> None:
        """A transaction that the server gives up, or a connection that breaks in the middle of the points, is tried again at
        once; the batch is there once."""
        journal = Journal()
        write(backend, journal.batch(started()))
        failing(2)
        batch = journal.batch(Param("p", 1, "user", 1), series=[points("x", range(3_000), [0.5] * 3_000)])
        assert write(backend, batch) is Outcome.STORED
        assert write(backend, batch) is Outcome.DUPLICATE
        assert told(backend.history("r1", "x", {}))["steps"] == list(range(3_000))
        assert len(backend.params("r1", revisions=True)) == 1

    def test_lasting_failures_are_for_later(self, backend: Backend, failing: Callable[[int], None]) -> None:
        """When it does not pass, nothing of the call is stored, and the same batches go in later."""
        journal, other = Journal(), Journal("j2", "r2")
        write(backend, journal.batch(started()))
        failing(1_000)
        batches = [
            other.batch(started("r2")),
            journal.batch(Param("p", 1, "user", 1), series=[points("x", [1], [0.5])]),
        ]
        with pytest.raises(Unavailable) as caught:
            backend.write([Arrival(batch) for batch in batches])
        assert "\n" not in str(caught.value)
        assert (backend.run("r2"), backend.params("r1"), backend.series(["r1"])) == (None, [], [])
        assert (backend.position("j1"), backend.position("j2")) == (1, 0)
        failing(0)
        assert backend.write([Arrival(batch) for batch in batches]) == [Outcome.STORED] * 2

    def test_what_the_server_cannot_hold(self, backend: Backend) -> None:
        """A value that does not fit its column (validation lets none through) is refused for good, alone: the other batches of
        the call are stored."""
        good, long = Journal(), Journal("j2", "r" * 99)
        batches = [good.batch(started()), long.batch(started(long.run)), good.batch(Param("p", 1, "user", 1))]
        answers = backend.write([Arrival(batch) for batch in batches])
        assert [type(answer) for answer in answers] == [Outcome, Rejected, Outcome]
        assert "cannot hold this" in str(answers[1])
        assert "\n" not in str(answers[1])
        assert [run.run for run in backend.runs()] == ["r1"]
        assert len(backend.params("r1")) == 1

    def test_a_commit_that_is_never_answered(self, through: Callable[[int], Backend], server_port: int) -> None:
        """The connection breaks after the server has committed and before it said so: the next try finds the batch there."""
        with relay(server_port) as between:
            backend = through(between.port)
            journal = Journal()
            write(backend, journal.batch(started()))
            batch = journal.batch(Param("p", 1, "user", 1), series=[points("x", range(100), [0.5] * 100)])
            between.commits_to_swallow = 1
            assert write(backend, batch) is Outcome.DUPLICATE
            between.commits_to_swallow = 1
            assert write(backend, Journal("j2", "r2").batch(started("r2"))) is Outcome.DUPLICATE
            assert told(backend.history("r1", "x", {}))["steps"] == list(range(100))
            assert len(backend.params("r1", revisions=True)) == 1
            assert (backend.position("j1"), backend.position("j2")) == (journal.next, 1)
            backend.close()


def until_stored(backend: Backend, batch: Batch) -> Outcome:
    """As a sender does."""
    for _ in range(100):
        try:
            return write(backend, batch)
        except Unavailable:
            continue
    raise AssertionError("never stored")
