"""A run of several processes: one run, whose end is what the ends of its ranks come to, and in which nothing is told twice."""

from __future__ import annotations

from typing import Any

import pytest

from looptap.events import Artifact, Note, RunEnded
from looptap_collector.backend import Arrival, Backend, Outcome
from looptap_collector.testing.batches import START_NS, Journal, points, started, told, write


def job(backend: Backend, ranks: int = 3) -> list[Journal]:
    journals = [Journal(f"j{rank}") for rank in range(ranks)]
    for rank, journal in enumerate(journals):
        write(backend, journal.batch(started(pid=rank, rank=rank, world_size=ranks)))
    return journals


def end_of(backend: Backend) -> tuple[str, int | None, str | None]:
    run = backend.run("r1")
    assert run is not None
    return run.status, run.ended_ns, run.error


#: How ranks 0, 1 and 2 end, and what that makes of the run.
ENDS: list[tuple[list[tuple[str, str | None]], str, str | None]] = [
    ([("finished", None)] * 3, "finished", None),
    ([("finished", None), ("finished", None), ("killed", "gone")], "partial", "rank 2: gone"),
    ([("finished", None), ("killed", "gone"), ("killed", "too")], "partial", "rank 1: gone"),
    ([("killed", "gone"), ("finished", None), ("finished", None)], "killed", "rank 0: gone"),
    ([("killed", "gone"), ("killed", "gone"), ("killed", "gone")], "killed", "rank 0: gone"),
    ([("killed", "gone"), ("failed", "ValueError: no"), ("finished", None)], "failed", "rank 1: ValueError: no"),
    ([("failed", "a"), ("failed", "b"), ("failed", "c")], "failed", "rank 0: a"),
]


class JobContract:
    @pytest.mark.parametrize(("ends", "status", "error"), ENDS)
    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)], ids=["0 first", "0 last"])
    def test_the_end_of_a_job(
        self,
        backend: Backend,
        ends: list[tuple[str, str | None]],
        status: str,
        error: str | None,
        order: tuple[int, ...],
    ) -> None:
        """It goes on until the last of its ranks has told its end; in whatever order they do, it comes to the same."""
        journals = job(backend)
        for rank in order:
            assert end_of(backend) == ("running", None, None)
            told_status, told_error = ends[rank]
            write(backend, journals[rank].batch(RunEnded(told_status, START_NS + rank, told_error, rank)))
        assert end_of(backend) == (status, START_NS + 2, error)
        assert [(entry.journal, entry.rank, entry.status, entry.error) for entry in backend.delivery("r1")] == [
            (f"j{rank}", rank, *ends[rank]) for rank in range(3)
        ]

    def test_a_job_in_one_group(self, backend: Backend) -> None:
        """Several ranks may start and end in one transaction."""
        journals = [Journal(f"j{rank}") for rank in range(2)]
        arrivals = [
            Arrival(journal.batch(started(rank=rank, world_size=2), RunEnded("finished", START_NS + rank, rank=rank)))
            for rank, journal in enumerate(journals)
        ]
        assert backend.write(arrivals[::-1]) == [Outcome.STORED] * 2
        assert end_of(backend) == ("finished", START_NS + 1, None)

    def test_the_identity_is_that_of_rank_0(self, backend: Backend) -> None:
        """Whoever comes first makes the run; from when rank 0 has come, it is rank 0's."""
        write(backend, Journal("j2").batch(started(pid=12, name="two", rank=2, world_size=3)))
        assert [(row.name, row.identity.pid) for row in backend.runs()] == [("two", 12)]
        first = started(pid=10, name="zero", experiment="other", rank=0, world_size=3, time_ns=START_NS + 5)
        write(backend, Journal("j0").batch(first))
        write(backend, Journal("j1").batch(started(pid=11, name="one", rank=1, world_size=3)))
        write(backend, Journal("j0-child").batch(started(pid=99, name="child", rank=0, world_size=3)))
        (row,) = backend.runs()
        assert row.identity == first
        assert (row.name, row.experiment, row.started_ns, row.status) == ("zero", "other", START_NS + 5, "running")
        assert [found.run for found in backend.runs(experiment="other")] == ["r1"]

    def test_a_rank_that_comes_late(self, backend: Backend) -> None:
        """Its records had to wait somewhere: then the run was not over yet, and ends with this one."""
        first, last = Journal("j0"), Journal("j1")
        write(backend, first.batch(started(world_size=2), RunEnded("finished", START_NS + 1)))
        assert end_of(backend) == ("finished", START_NS + 1, None)
        write(backend, last.batch(started(rank=1, world_size=2)))
        assert end_of(backend) == ("running", None, None)
        write(backend, last.batch(RunEnded("finished", START_NS + 9, rank=1)))
        assert end_of(backend) == ("finished", START_NS + 9, None)

    def test_a_forked_child_has_no_say(self, backend: Backend) -> None:
        """A process that a rank has forked tells no end, and none is waited for."""
        journals = job(backend, 2)
        write(backend, Journal("j1-child").batch(started(pid=1, rank=1, world_size=2)))
        for rank, journal in enumerate(journals):
            write(backend, journal.batch(RunEnded("finished", START_NS + rank, rank=rank)))
        assert end_of(backend) == ("finished", START_NS + 1, None)
        write(backend, Journal("j0-child").batch(started(pid=0, rank=0, world_size=2)))
        assert end_of(backend) == ("finished", START_NS + 1, None)

    def test_given_up_too_early(self, backend: Backend) -> None:
        """What others conclude about a silent job no longer counts when it is heard of, nor when it tells its end."""
        first, last = job(backend, 2)
        write(backend, first.batch(RunEnded("finished", START_NS + 1)))
        backend.set_status("r1", "partial", ended_ns=START_NS + 1, error="rank 1: silent")
        assert end_of(backend) == ("partial", START_NS + 1, "rank 1: silent")
        write(backend, last.batch(heartbeat_ns=START_NS + 5))
        assert end_of(backend) == ("running", None, None)
        write(backend, last.batch(RunEnded("finished", START_NS + 9, rank=1)))
        assert end_of(backend) == ("finished", START_NS + 9, None)

    def test_series_of_ranks(self, backend: Backend) -> None:
        """Each rank has its own series, told apart by the context."""
        for rank, journal in enumerate(job(backend, 2)):
            context = {"rank": str(rank)} if rank else {}
            write(backend, journal.batch(series=[points("loss", [0, 1], [rank, rank + 0.5], context)]))
        assert told(backend.history("r1", "loss", {})) == {"steps": [0, 1], "values": [0.0, 0.5]}
        assert told(backend.history("r1", "loss", {"rank": "1"})) == {"steps": [0, 1], "values": [1.0, 1.5]}

    def test_one_file_of_several_ranks_is_one(self, backend: Backend) -> None:
        """The same content under the same path at the same step is one edge, within a batch and over several; anything else
        is another."""
        file: dict[str, Any] = {"digest": "ab" * 32, "path": "/m.pt", "kind": "model", "step": 7}
        others = [
            Artifact("m.pt", 1, 10, **(file | change))
            for change in (
                {"step": 8},
                {"step": None},
                {"digest": "cd" * 32},
                {"path": "/n.pt"},
                {"role": "input"},
                {"digest": None, "missing": "deleted"},
            )
        ]
        journals = job(backend, 3)
        for time_ns, journal in enumerate(journals):
            artifact = Artifact("m.pt", time_ns, 10, **file)
            write(backend, journal.batch(artifact, artifact, *others, *others))
        assert list(backend.artifacts("r1")) == [Artifact("m.pt", 0, 10, **file), *others]
        assert len(backend.edges(runs=["r1"])) == 7
        assert sum(entry.stored for entry in backend.delivery("r1")) == 3 * 15
        write(backend, Journal("other", "r2").batch(started("r2"), Artifact("m.pt", 5, 10, **file)))
        assert len(backend.artifacts("r2")) == 1, "another run has its own edge"

    def test_a_file_that_another_rank_has_written_again(self, backend: Backend) -> None:
        """Of several ranks that write one path at one step, the last is kept; that the others were superseded is no news, whoever
        is heard of first."""
        file: dict[str, Any] = {"path": "/m.pt", "kind": "model"}
        lost = [Artifact("m.pt", 1, 10, missing="superseded", step=step, **file) for step in (7, 8, None)]
        kept = Artifact("m.pt", 2, 10, digest="ab" * 32, step=7, **file)
        later = Artifact("m.pt", 3, 10, digest="cd" * 32, step=8, **file)
        first, second, third = job(backend, 3)
        write(backend, first.batch(*lost))
        write(backend, second.batch(kept, later))
        write(backend, third.batch(*lost))
        assert list(backend.artifacts("r1")) == [lost[2], kept, later]
        assert [edge.artifact for edge in backend.edges(digests=["ab" * 32])] == [kept]

    def test_one_note_of_several_ranks_is_one(self, backend: Backend) -> None:
        """In order of the first time that it was told."""
        one, other = Note("torch", "not seen", 1), Note("torch", "not read", 2)
        for time_ns, journal in enumerate(job(backend, 3)):
            write(backend, journal.batch(Note("torch", "not seen", time_ns + 1), other, one))
        run = backend.run("r1")
        assert run is not None
        assert run.notes == (one, other)
