"""Several batches in one call are answered one by one."""

from __future__ import annotations

from looptap.events import Note, Param, Rejected, RunEnded, SeriesPoints, Tag
from looptap_collector.backend import Arrival, Backend, Outcome
from looptap_collector.testing.batches import Journal, points, started, told


class GroupContract:
    def test_several_batches_in_one_call(self, backend: Backend) -> None:
        """Batches of one journal and of several go in together, in order, as if they had come one by one."""
        one, two = Journal("j1", "r1"), Journal("j2", "r2")
        arrivals = [
            one.batch(started("r1"), Param("p", 1, "user", 1), Tag("t", "a", 1), series=[points("x", [2], [1.0])]),
            two.batch(started("r2"), Param("p", 7, "user", 1), series=[points("x", [1], [9.0])]),
            one.batch(Param("p", 2, "user", 2), Tag("t", "b", 2), series=[points("x", [2, 1], [2.0, 3.0])]),
            one.batch(Param("p", 2, "user", 3), Note("n", "m", 1), RunEnded("finished", 5)),
            two.batch(series=[points("x", [2], [8.0]), points("y", [1], [1.0])], heartbeat_ns=8),
        ]
        assert backend.write([Arrival(batch) for batch in arrivals]) == [Outcome.STORED] * 5
        assert told(backend.history("r1", "x", {})) == {"steps": [1, 2, 2], "values": [3.0, 1.0, 2.0]}
        assert told(backend.history("r2", "x", {})) == {"steps": [1, 2], "values": [9.0, 8.0]}
        assert [(row.key, row.count, row.last) for row in backend.series(["r2"])] == [("x", 2, 8.0), ("y", 1, 1.0)]
        assert [(row.value, row.revision) for row in backend.params("r1", revisions=True)] == [(1, 0), (2, 1)]
        assert [(row.value, row.revision) for row in backend.params("r2", revisions=True)] == [(7, 0)]
        assert backend.tags("r1") == {"t": "b"}
        first, second = backend.run("r1"), backend.run("r2")
        assert first is not None
        assert second is not None
        assert (first.status, first.ended_ns, len(first.notes)) == ("finished", 5, 1)
        assert (second.status, second.heartbeat_ns) == ("running", 8)
        assert (backend.position("j1"), backend.position("j2")) == (one.next, two.next)

    def test_a_refused_batch_harms_no_other(self, backend: Backend) -> None:
        """Each batch of a call has its own answer; of a refused one nothing is there, of the others all."""
        good, bad = Journal("j1", "r1"), Journal("j2", "r2")
        first = good.batch(started("r1"))
        broken = SeriesPoints("x", {}, bytes(8), bytes(16), bytes(8))
        batches = [
            first,
            bad.batch(started("r2"), Tag("a", "b", 1), series=[broken]),
            first,
            Journal("j3", "r3").batch(Tag("a", "b", 1)),
            Journal("j1", "r4").batch(started("r4")),
            good.batch(Tag("a", "b", 1), series=[points("x", [1], [1.0])]),
        ]
        answers = backend.write([Arrival(batch) for batch in batches])
        assert answers[0] is answers[5] is Outcome.STORED
        assert answers[2] is Outcome.DUPLICATE
        assert [type(answers[number]) for number in (1, 3, 4)] == [Rejected] * 3
        assert [run.run for run in backend.runs()] == ["r1"]
        assert [backend.position(journal) for journal in ("j1", "j2", "j3")] == [good.next, 0, 0]
        assert backend.tags("r1") == {"a": "b"}
        assert told(backend.history("r1", "x", {})) == {"steps": [1], "values": [1.0]}

    def test_an_empty_call(self, backend: Backend) -> None:
        """No batches, no answers."""
        assert backend.write([]) == []

    def test_many_runs_in_one_call(self, backend: Backend) -> None:
        """More runs, journals and experiments than an engine takes in one list."""
        batches = [
            Journal(f"j{number}", f"r{number:04}").batch(
                started(f"r{number:04}", experiment=f"e{number}"), series=[points("x", [number], [1.0])]
            )
            for number in range(1_200)
        ]
        assert set(backend.write([Arrival(batch) for batch in batches])) == {Outcome.STORED}
        assert set(backend.write([Arrival(batch) for batch in batches])) == {Outcome.DUPLICATE}
        rows = backend.series([f"r{number:04}" for number in range(1_200)])
        assert [row.last_step for row in rows] == list(range(1_200))
