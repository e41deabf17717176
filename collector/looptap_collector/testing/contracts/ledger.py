"""Each batch is stored once, by its owner, in one piece."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from looptap.events import Artifact, Batch, Param, Rejected, SeriesPoints, Tag
from looptap_collector.backend import Arrival, Backend, Conflict, NotYours, Outcome
from looptap_collector.testing.batches import Journal, points, started, told, write


class LedgerContract:
    def test_each_batch_three_times_is_stored_once(self, backend: Backend) -> None:
        """A storm of copies, some of them long after later batches, leaves what one delivery of each
        leaves."""
        journal = Journal()
        batches = [journal.batch(started())]
        batches += [
            journal.batch(Param("p", number, "user", number), series=[points("x", [number], [float(number)])])
            for number in range(20)
        ]
        chance = random.Random(7)
        for number, batch in enumerate(batches):
            assert write(backend, batch) is Outcome.STORED
            for copy in (batch, chance.choice(batches[: number + 1])):
                assert write(backend, copy) is Outcome.DUPLICATE
        assert told(backend.history("r1", "x", {}))["steps"] == list(range(20))
        assert len(backend.params("r1", revisions=True)) == 20
        (entry,) = backend.delivery("r1")
        assert (entry.next, entry.stored, entry.dropped) == (journal.next, 41, {})

    def test_a_gap_is_a_count(self, backend: Backend) -> None:
        """Records that never arrive show in the ledger; an older batch that comes late counts as lost, not as
        new."""
        journal = Journal()
        write(backend, journal.batch(started()))
        late = journal.batch(series=[points("x", [0, 1], [0.0, 1.0])])
        write(backend, journal.batch(series=[points("x", [2], [2.0])], lost=3, dropped={"disk full": 3}))
        assert write(backend, late) is Outcome.DUPLICATE
        (entry,) = backend.delivery("r1")
        assert (entry.next, entry.stored, entry.dropped) == (7, 2, {"disk full": 3})
        assert backend.position("j1") == 7

    def test_totals_of_drops_only_grow(self, backend: Backend) -> None:
        """Drops are totals: the higher one counts, an empty batch brings news, an old copy changes
        nothing."""
        journal = Journal()
        first = journal.batch(started(), dropped={"a": 1})
        write(backend, first)
        write(backend, journal.batch(Tag("x", "y", 1), dropped={"a": 4, "b": 2}))
        write(backend, first)
        write(backend, journal.batch(dropped={"a": 5}))
        assert backend.delivery("r1")[0].dropped == {"a": 5, "b": 2}

    def test_overlap_is_rejected(self, backend: Backend) -> None:
        """A batch that holds both known and new numbers cannot be stored once; nothing of it is."""
        journal = Journal()
        write(backend, journal.batch(started(), Tag("a", "1", 1)))
        journal.next = 1
        with pytest.raises(Rejected, match="overlap"):
            write(backend, journal.batch(Tag("a", "2", 2), Tag("b", "2", 2)))
        assert backend.tags("r1") == {"a": "1"}
        assert backend.position("j1") == 2

    def test_a_run_must_start(self, backend: Backend) -> None:
        """Points of a run that nobody told about are rejected, and so is a start inside another run's
        batch."""
        with pytest.raises(Rejected, match="never started"):
            write(backend, Journal().batch(series=[points("x", [1], [1.0])]))
        with pytest.raises(Rejected, match="cannot start"):
            write(backend, Journal().batch(started("r2")))
        assert (list(backend.runs()), backend.position("j1")) == ([], 0)

    def test_a_journal_belongs_to_one_run(self, backend: Backend) -> None:
        """The same journal for another run is a mistake."""
        write(backend, Journal("j1", "r1").batch(started("r1")))
        other = Journal("j1", "r2")
        other.next = 1
        with pytest.raises(Rejected, match="belongs to run"):
            write(backend, other.batch(started("r2")))

    @pytest.mark.parametrize("lengths", [(8, 8, 16), (8, 16, 8), (7, 7, 7)])
    def test_arrays_must_agree(self, backend: Backend, lengths: tuple[int, int, int]) -> None:
        """Arrays of different length, or of half a number, are rejected with the whole batch."""
        broken = SeriesPoints("x", {}, *(bytes(length) for length in lengths))
        with pytest.raises(Rejected, match="multiple of 8"):
            write(backend, Journal().batch(started(), series=[points("ok", [1], [1.0]), broken]))
        assert backend.run("r1") is None

    # Owners and contradictions

    def test_a_run_belongs_to_who_started_it(self, backend: Backend) -> None:
        """Nobody else may append to it, under whatever journal, nor learn by a copy that it is there."""
        journal = Journal()
        first = journal.batch(started())
        assert write(backend, first, "ada") is Outcome.STORED
        assert write(backend, first, "ada") is Outcome.DUPLICATE
        for batch in (first, Journal("j9").batch(started(), Tag("a", "b", 1)), Batch("r1", "j9", 0, 0, heartbeat_ns=9)):
            with pytest.raises(NotYours):
                write(backend, batch, "eve")
        with pytest.raises(NotYours):
            write(backend, Journal("j1", "r2").batch(started("r2")), "eve")
        assert backend.runs()[0].heartbeat_ns is None
        assert (backend.tags("r1"), backend.position("j9"), backend.run("r2")) == ({}, 0, None)
        assert write(backend, journal.batch(Tag("a", "b", 1)), "ada") is Outcome.STORED

    def test_a_run_without_owner_is_only_for_the_store_itself(self, backend: Backend) -> None:
        """Without an owner (embedded) everything may be written; what began so takes nothing from the network."""
        own, foreign = Journal("j1", "r1"), Journal("j2", "r2")
        write(backend, own.batch(started("r1")))
        write(backend, foreign.batch(started("r2")), "ada")
        assert write(backend, foreign.batch(Tag("a", "b", 1))) is Outcome.STORED
        with pytest.raises(NotYours):
            write(backend, own.batch(Tag("a", "b", 1)), "ada")

    def test_owners_are_told_apart_within_one_call(self, backend: Backend) -> None:
        """Who comes first in a call owns the run for the rest of it."""
        first, second = Journal("j1").batch(started()), Journal("j2").batch(started())
        answers = backend.write([Arrival(first, "ada"), Arrival(second, "eve"), Arrival(first, "eve")])
        assert answers[0] is Outcome.STORED
        assert [type(answer) for answer in answers[1:]] == [NotYours] * 2

    @pytest.mark.parametrize(
        "other",
        [
            {"records": (Param("p", 2, "user", 1),)},
            {"records": (Param("p", 1.0, "user", 1),)},
            {"records": (Tag("p", "1", 1),)},
            {"records": (), "series": (points("p", [1], [1.0]),)},
        ],
    )
    def test_the_same_numbers_with_other_records(self, backend: Backend, other: dict[str, Any]) -> None:
        """The last batch again is a duplicate, whatever it tells of the agent; with other records it is a
        contradiction, and nothing of it is taken."""
        journal = Journal()
        write(backend, journal.batch(started()))
        last = journal.batch(Param("p", 1, "user", 1))
        assert write(backend, last) is Outcome.STORED
        again = msgspec.structs.replace(last, heartbeat_ns=7, dropped={"a": 1})
        assert write(backend, again) is Outcome.DUPLICATE
        with pytest.raises(Conflict, match="other content"):
            write(backend, msgspec.structs.replace(last, heartbeat_ns=99, dropped={"b": 9}, **other))
        (entry,) = backend.delivery("r1")
        assert (entry.dropped, backend.runs()[0].heartbeat_ns) == ({"a": 1}, 7)
        assert [row.value for row in backend.params("r1", revisions=True)] == [1]
        assert write(backend, last) is Outcome.DUPLICATE

    def test_a_copy_from_the_wire_is_a_duplicate(self, backend: Backend) -> None:
        """Lists for tuples and another order of a context do not make other records; nor does a file that was looked up
        again and is gone."""
        journal = Journal()
        series = points("x", [1], [1.0], {"b": "1", "a": "2"})
        file = Artifact("m.pt", 1, 10, digest="ab" * 32)
        assert write(
            backend, journal.batch(started(command=("a", "b")), Param("p", (1, 2), "user", 1), file, series=[series])
        )
        journal.next = 0
        gone = Artifact("m.pt", 1, 10, missing="deleted")
        series = points("x", [1], [1.0], {"a": "2", "b": "1"})
        copy = journal.batch(started(command=("a", "b")), Param("p", [1, 2], "user", 1), gone, series=[series])
        assert write(backend, copy) is Outcome.DUPLICATE
