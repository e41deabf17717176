"""What every backend must do, as a suite: subclass it beside a fixture ``backend`` that opens an empty store
on the real engine.

``reopen`` gives a second, independent connection to the same store, as another process would have.
"""

from __future__ import annotations

import math
import random
import struct
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.batches import START_NS, Journal, points, same_bits, started, told
from looptap.events import Artifact, Environment, Note, Param, Rejected, RunEnded, SeriesPoints, Tag
from looptap_collector.backend import Backend, Outcome

Reopen: TypeAlias = Callable[[], Backend]
STRANGE = [float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 5e-324, 1.7976931348623157e308]


class BackendContract:
    # Runs

    def test_run_is_kept_with_its_identity(self, backend: Backend) -> None:
        """All that a run told at its start comes back, from the run itself and from the list."""
        identity = started(script="train.py", command=("python", "train.py"), host="box", pid=7)
        assert backend.write(Journal().batch(identity, heartbeat_ns=5)) is Outcome.STORED
        run = backend.run("r1")
        assert run is not None
        assert run.identity == identity
        assert (run.name, run.experiment, run.kind) == ("calm-otter-12", "demo", "training")
        assert (run.status, run.started_ns, run.ended_ns, run.heartbeat_ns) == ("running", START_NS, None, 5)
        assert list(backend.runs()) == [run]

    def test_unknown_things_are_empty(self, backend: Backend) -> None:
        """Nothing is invented for a run that is not there."""
        assert backend.run("r1") is None
        assert backend.position("j1") == 0
        assert not any([backend.runs(), backend.params("r1"), backend.tags("r1"), backend.series(["r1"])])
        assert not any([backend.artifacts("r1"), backend.delivery("r1")])

    def test_runs_are_listed_newest_first_by_experiment(self, backend: Backend) -> None:
        """The list is ordered by start, can be limited, and can be of one experiment."""
        for number, experiment in enumerate(["a", "b", "a"]):
            run = f"r{number}"
            record = started(run, experiment=experiment, time_ns=START_NS + number)
            backend.write(Journal(f"j{number}", run).batch(record))
        assert [row.run for row in backend.runs()] == ["r2", "r1", "r0"]
        assert [row.run for row in backend.runs(limit=2)] == ["r2", "r1"]
        assert [row.run for row in backend.runs(experiment="a", limit=5)] == ["r2", "r0"]
        assert list(backend.runs(experiment="none")) == []

    def test_second_process_of_a_run_leaves_its_identity(self, backend: Backend) -> None:
        """A run that starts again under another journal is the same run, as first told."""
        backend.write(Journal("j1").batch(started(pid=1)))
        backend.write(Journal("j2").batch(started(pid=2, name="other", time_ns=START_NS + 9)))
        run = backend.run("r1")
        assert run is not None
        assert (run.identity.pid, run.name, len(backend.runs())) == (1, "calm-otter-12", 1)
        assert [entry.journal for entry in backend.delivery("r1")] == ["j1", "j2"]

    def test_end_is_the_word_of_the_run(self, backend: Backend) -> None:
        """Status, time and error of the end are kept; what others conclude later does not override them."""
        backend.write(Journal().batch(started(), RunEnded("failed", START_NS + 9, "ValueError: no")))
        backend.set_status("r1", "lost", ended_ns=1)
        run = backend.run("r1")
        assert run is not None
        assert (run.status, run.ended_ns, run.error) == ("failed", START_NS + 9, "ValueError: no")

    def test_others_may_conclude_until_the_run_speaks(self, backend: Backend) -> None:
        """A run found dead is marked so; its own end, delivered later, counts more."""
        journal = Journal()
        backend.write(journal.batch(started()))
        backend.set_status("r1", "killed", ended_ns=START_NS + 1, error="found dead")
        run = backend.run("r1")
        assert run is not None
        assert (run.status, run.ended_ns, run.error) == ("killed", START_NS + 1, "found dead")
        backend.write(journal.batch(RunEnded("finished", START_NS + 2)))
        run = backend.run("r1")
        assert run is not None
        assert (run.status, run.ended_ns, run.error) == ("finished", START_NS + 2, None)

    def test_heartbeat_only_grows(self, backend: Backend) -> None:
        """The latest sign of life counts, in whatever order they arrive; one without records counts too."""
        journal = Journal()
        backend.write(journal.batch(started(), heartbeat_ns=50))
        backend.write(journal.batch(Tag("a", "b", 1), heartbeat_ns=40))
        assert backend.runs()[0].heartbeat_ns == 50
        assert backend.write(journal.batch(heartbeat_ns=60)) is Outcome.DUPLICATE
        assert backend.runs()[0].heartbeat_ns == 60

    def test_environment_and_notes(self, backend: Backend) -> None:
        """The last environment counts; notes are kept in order."""
        early = Environment(time_ns=1, git_commit="aaa", packages={"torch": "2.13"})
        late = Environment(time_ns=2, git_commit="bbb", git_dirty=True, variables={"RANK": "0"})
        notes = (Note("amp", "not seen", 1), Note("loss", "no name", 2))
        backend.write(Journal().batch(started(), early, *notes, late))
        run = backend.run("r1")
        assert run is not None
        assert (run.environment, run.notes) == (late, notes)

    # Params, tags, artifacts

    @pytest.mark.parametrize(
        "value",
        [None, True, 1, 1.5, -(2**70), "text, é and \x00", "", [1, [2.5, None]], {"a": {"b": [True]}}, float("inf")],
    )
    def test_param_values_keep_their_type(self, backend: Backend, value: Any) -> None:
        """A value comes back as the same value of the same type."""
        backend.write(Journal().batch(started(), Param("p", value, "user", 3)))
        (row,) = backend.params("r1")
        assert (row.value, type(row.value), row.source, row.revision, row.time_ns) == (value, type(value), "user", 0, 3)

    def test_param_changes_are_revisions(self, backend: Backend) -> None:
        """Another value is a new revision, the same value none; a bool is not a one."""
        told_values = [1, 1, 1.0, True, True, float("nan"), float("nan"), 1]
        journal = Journal()
        backend.write(journal.batch(started()))
        for time_ns, value in enumerate(told_values):
            backend.write(journal.batch(Param("p", value, f"s{time_ns}", time_ns), Param("a", 0, "user", time_ns)))
        rows = [row for row in backend.params("r1", revisions=True) if row.key == "p"]
        assert [(row.revision, row.time_ns) for row in rows] == [(0, 0), (1, 2), (2, 3), (3, 5), (4, 7)]
        assert [type(row.value) for row in rows] == [int, float, bool, float, int]
        assert [(row.key, row.revision) for row in backend.params("r1")] == [("a", 0), ("p", 4)]

    def test_last_tag_counts(self, backend: Backend) -> None:
        """A tag is overwritten, in one batch and over two."""
        journal = Journal()
        backend.write(journal.batch(started(), Tag("b", "1", 1), Tag("b", "2", 2), Tag("a", "x", 2)))
        backend.write(journal.batch(Tag("b", "3", 3)))
        assert backend.tags("r1") == {"a": "x", "b": "3"}

    def test_artifacts_come_back_as_told(self, backend: Backend) -> None:
        """In order of emission, the same content twice, and those without content with their reason."""
        digest = "ab" * 32
        told_artifacts = [
            Artifact("best.pt", 1, 10, digest=digest, path="/x/best.pt", kind="model", step=3),
            Artifact("last.pt", 2, 10, digest=digest, description="again", media_type="application/zip"),
            Artifact("data.csv", 3, 99, missing="deleted", role="input"),
        ]
        backend.write(Journal().batch(started(), *told_artifacts))
        assert list(backend.artifacts("r1")) == told_artifacts

    def test_text_of_a_run_is_only_text(self, backend: Backend) -> None:
        """Quotes, SQL, wildcards and markup are data in every place that takes text."""
        nasty = "'; DROP TABLE run; --\" %_ \\ <script> ../../etc/passwd \n ‮ 🦦"
        journal = Journal(nasty, "r'1")
        series = points(nasty, [1], [2.0], {nasty: nasty})
        backend.write(
            journal.batch(started("r'1", name=nasty, experiment=nasty), Tag(nasty, nasty, 1), series=[series])
        )
        assert backend.runs(experiment=nasty)[0].name == nasty
        assert backend.tags("r'1") == {nasty: nasty}
        assert told(backend.history("r'1", nasty, {nasty: nasty})) == {"steps": [1], "values": [2.0]}
        assert backend.position(nasty) == journal.next

    # Points

    def test_values_are_exact(self, backend: Backend) -> None:
        """NaN with its payload, infinities, the negative zero and the ends of the range are stored to the
        bit."""
        payload = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_DEAD_BEEF))[0]
        values = np.array([*STRANGE, payload])
        backend.write(Journal().batch(started(), series=[points("loss", range(len(values)), values)]))
        history = backend.history("r1", "loss", {})
        assert same_bits(history.values, values)
        assert history.times_ns.tolist() == [START_NS + step * 1_000_000 for step in range(len(values))]

    @pytest.mark.parametrize("value", STRANGE)
    def test_summary_is_exact(self, backend: Backend, value: float) -> None:
        """One strange value is the last one to the bit, and an extreme unless it is NaN."""
        backend.write(Journal().batch(started(), series=[points("loss", [4], [value])]))
        (row,) = backend.series(["r1"])
        assert struct.pack("<d", row.last) == struct.pack("<d", value)
        assert (row.count, row.nan_count, row.first_step, row.last_step) == (1, math.isnan(value), 4, 4)
        expected = None if math.isnan(value) else value
        assert (row.min, row.max) == (expected, expected)

    def test_summary_runs_over_batches(self, backend: Backend) -> None:
        """Counts add up; ``last`` is of the highest step, the latest among equals; extremes leave NaN out."""
        nan = float("nan")
        journal = Journal()
        backend.write(journal.batch(started(), series=[points("loss", [5, 6], [nan, nan])]))
        backend.write(journal.batch(series=[points("loss", [9, 9, 2], [1.0, 3.0, -4.0])]))
        backend.write(journal.batch(series=[points("loss", [-7], [8.0])]))
        (row,) = backend.series(["r1"])
        assert (row.count, row.nan_count, row.first_step, row.last_step) == (6, 2, -7, 9)
        assert (row.last, row.min, row.max, row.last_time_ns) == (3.0, -4.0, 8.0, START_NS + 9_000_000)
        backend.write(journal.batch(series=[points("loss", [9], [7.5])]))
        assert backend.series(["r1"])[0].last == 7.5

    def test_steps_in_any_order(self, backend: Backend) -> None:
        """Points come back by step, those of one step in the order in which they arrived."""
        journal = Journal()
        backend.write(journal.batch(started(), series=[points("x", [3, 1, 3], [0.0, 1.0, 2.0])]))
        backend.write(journal.batch(series=[points("x", [3, -2, 1], [3.0, 4.0, 5.0])]))
        assert told(backend.history("r1", "x", {})) == {
            "steps": [-2, 1, 1, 3, 3, 3],
            "values": [4.0, 1.0, 5.0, 0.0, 2.0, 3.0],
        }

    def test_extreme_steps(self, backend: Backend) -> None:
        """The ends of the 64-bit range are steps like any other."""
        lowest, highest = -(2**63), 2**63 - 1
        columns = np.array([highest, 0, lowest])
        series = SeriesPoints("x", {}, columns.tobytes(), columns.tobytes(), np.array([1.0, 2.0, 3.0]).tobytes())
        backend.write(Journal().batch(started(), series=[series]))
        assert told(backend.history("r1", "x", {})) == {"steps": [lowest, 0, highest], "values": [3.0, 2.0, 1.0]}
        (row,) = backend.series(["r1"])
        assert (row.first_step, row.last_step, row.last) == (lowest, highest, 1.0)

    def test_contexts_are_series_of_their_own(self, backend: Backend) -> None:
        """The same key in two contexts is two series; the order of a context's items means nothing."""
        backend.write(
            Journal().batch(
                started(),
                series=[
                    points("loss", [1], [1.0]),
                    points("loss", [1], [2.0], {"rank": "1", "phase": "test"}),
                    points("loss", [2], [3.0], {"phase": "test", "rank": "1"}),
                    points("acc", [1], [4.0]),
                ],
            )
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
        backend.write(journal.batch(started(), series=[points(name, [1], [1.0]) for name in names]))
        backend.write(journal.batch(series=[points(name, [2], [2.0]) for name in names]))
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
        backend.write(journal.batch(started(run)))
        steps = np.random.default_rng(seed).integers(0, 50, sum(sizes))
        values = np.arange(len(steps), dtype=np.float64)
        start = 0
        for size in sizes:
            piece = slice(start, start + size)
            backend.write(journal.batch(series=[points("x", steps[piece], values[piece])]))
            start += size
        order = np.argsort(steps, kind="stable")
        for _ in range(2):
            history = backend.history(run, "x", {})
            assert same_bits(history.values, values[order])
            assert same_bits(history.steps, steps[order])
            backend.write(journal.batch(RunEnded("finished", 1)))

    # The ledger

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
            assert backend.write(batch) is Outcome.STORED
            for copy in (batch, chance.choice(batches[: number + 1])):
                assert backend.write(copy) is Outcome.DUPLICATE
        assert told(backend.history("r1", "x", {}))["steps"] == list(range(20))
        assert len(backend.params("r1", revisions=True)) == 20
        (entry,) = backend.delivery("r1")
        assert (entry.next, entry.stored, entry.dropped) == (journal.next, 41, {})

    def test_a_gap_is_a_count(self, backend: Backend) -> None:
        """Records that never arrive show in the ledger; an older batch that comes late counts as lost, not as
        new."""
        journal = Journal()
        backend.write(journal.batch(started()))
        late = journal.batch(series=[points("x", [0, 1], [0.0, 1.0])])
        backend.write(journal.batch(series=[points("x", [2], [2.0])], lost=3, dropped={"disk full": 3}))
        assert backend.write(late) is Outcome.DUPLICATE
        (entry,) = backend.delivery("r1")
        assert (entry.next, entry.stored, entry.dropped) == (7, 2, {"disk full": 3})
        assert backend.position("j1") == 7

    def test_totals_of_drops_only_grow(self, backend: Backend) -> None:
        """Drops are totals: the higher one counts, an empty batch brings news, an old copy changes
        nothing."""
        journal = Journal()
        first = journal.batch(started(), dropped={"a": 1})
        backend.write(first)
        backend.write(journal.batch(Tag("x", "y", 1), dropped={"a": 4, "b": 2}))
        backend.write(first)
        backend.write(journal.batch(dropped={"a": 5}))
        assert backend.delivery("r1")[0].dropped == {"a": 5, "b": 2}

    def test_overlap_is_rejected(self, backend: Backend) -> None:
        """A batch that holds both known and new numbers cannot be stored once; nothing of it is."""
        journal = Journal()
        backend.write(journal.batch(started(), Tag("a", "1", 1)))
        journal.next = 1
        with pytest.raises(Rejected, match="overlap"):
            backend.write(journal.batch(Tag("a", "2", 2), Tag("b", "2", 2)))
        assert backend.tags("r1") == {"a": "1"}
        assert backend.position("j1") == 2

    def test_a_run_must_start(self, backend: Backend) -> None:
        """Points of a run that nobody told about are rejected, and so is a start inside another run's
        batch."""
        with pytest.raises(Rejected, match="never started"):
            backend.write(Journal().batch(series=[points("x", [1], [1.0])]))
        with pytest.raises(Rejected, match="cannot start"):
            backend.write(Journal().batch(started("r2")))
        assert (list(backend.runs()), backend.position("j1")) == ([], 0)

    def test_a_journal_belongs_to_one_run(self, backend: Backend) -> None:
        """The same journal for another run is a mistake."""
        backend.write(Journal("j1", "r1").batch(started("r1")))
        other = Journal("j1", "r2")
        other.next = 1
        with pytest.raises(Rejected, match="belongs to run"):
            backend.write(other.batch(started("r2")))

    @pytest.mark.parametrize("lengths", [(8, 8, 16), (8, 16, 8), (7, 7, 7)])
    def test_arrays_must_agree(self, backend: Backend, lengths: tuple[int, int, int]) -> None:
        """Arrays of different length, or of half a number, are rejected with the whole batch."""
        broken = SeriesPoints("x", {}, *(bytes(length) for length in lengths))
        with pytest.raises(Rejected, match="multiple of 8"):
            backend.write(Journal().batch(started(), series=[points("ok", [1], [1.0]), broken]))
        assert backend.run("r1") is None

    # Company

    def test_another_process_sees_what_was_written(self, backend: Backend, reopen: Reopen) -> None:
        """What one has written, the other reads, and can go on with."""
        journal = Journal()
        backend.write(journal.batch(started(), series=[points("x", [1], [1.0])]))
        other = reopen()
        assert other.position("j1") == journal.next
        other.write(journal.batch(series=[points("x", [2], [2.0])]))
        assert told(backend.history("r1", "x", {})) == {"steps": [1, 2], "values": [1.0, 2.0]}

    def test_several_writers_of_one_series(self, backend: Backend, reopen: Reopen) -> None:
        """Journals of one run that write the same series at once lose nothing and count right."""
        writers, rounds, each = 4, 25, 90
        backend.write(Journal("first").batch(started()))
        stores = [backend, backend, reopen(), reopen()]

        def write(number: int) -> None:
            journal = Journal(f"j{number}")
            for turn in range(rounds):
                steps = np.arange(each) + (turn * writers + number) * each
                stores[number].write(journal.batch(series=[points("x", steps, steps * 1.0)]))

        with ThreadPoolExecutor(writers) as pool:
            list(pool.map(write, range(writers)))
        total = writers * rounds * each
        assert backend.history("r1", "x", {}).steps.tolist() == list(range(total))
        (row,) = backend.series(["r1"])
        assert (row.count, row.first_step, row.last_step, row.last) == (total, 0, total - 1, total - 1.0)
        assert sum(entry.stored for entry in backend.delivery("r1")) == total + 1
