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

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.batches import START_NS, Journal, points, same_bits, started, told, write
from looptap.events import Artifact, Batch, Environment, Note, Param, Rejected, RunEnded, SeriesPoints, Tag
from looptap_collector.backend import Arrival, Backend, Conflict, NotYours, Outcome, TokenRow, TokenStore

Reopen: TypeAlias = Callable[[], Backend]
STRANGE = [float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 5e-324, 1.7976931348623157e308]
SIMILAR = [
    "a",
    "A",
    "a ",
    "a  ",
    " a",
    "á",
    "a\u0301",
    "à",
    "ß",
    "ss",
    "ﬁ",
    "fi",
    "\u00a0",
    "ﾊ",
    "ハ",
    "\ufffd",
    "🦦",
    "𝕒",
    "a\tb",
    "a\\",
    "a_",
    "%",
]


class BackendContract:
    # Runs

    def test_run_is_kept_with_its_identity(self, backend: Backend) -> None:
        """All that a run told at its start comes back, from the run itself and from the list."""
        identity = started(script="train.py", command=("python", "train.py"), host="box", pid=7)
        assert write(backend, Journal().batch(identity, heartbeat_ns=5)) is Outcome.STORED
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
            write(backend, Journal(f"j{number}", run).batch(record))
        assert [row.run for row in backend.runs()] == ["r2", "r1", "r0"]
        assert [row.run for row in backend.runs(limit=2)] == ["r2", "r1"]
        assert [row.run for row in backend.runs(experiment="a", limit=5)] == ["r2", "r0"]
        assert list(backend.runs(experiment="none")) == []

    def test_second_process_of_a_run_leaves_its_identity(self, backend: Backend) -> None:
        """A run that starts again under another journal is the same run, as first told."""
        write(backend, Journal("j1").batch(started(pid=1)))
        write(backend, Journal("j2").batch(started(pid=2, name="other", time_ns=START_NS + 9)))
        run = backend.run("r1")
        assert run is not None
        assert (run.identity.pid, run.name, len(backend.runs())) == (1, "calm-otter-12", 1)
        assert [entry.journal for entry in backend.delivery("r1")] == ["j1", "j2"]

    def test_end_is_the_word_of_the_run(self, backend: Backend) -> None:
        """Status, time and error of the end are kept; what others conclude later does not override them."""
        write(backend, Journal().batch(started(), RunEnded("failed", START_NS + 9, "ValueError: no")))
        backend.set_status("r1", "lost", ended_ns=1)
        run = backend.run("r1")
        assert run is not None
        assert (run.status, run.ended_ns, run.error) == ("failed", START_NS + 9, "ValueError: no")

    def test_others_may_conclude_until_the_run_speaks(self, backend: Backend) -> None:
        """A run found dead is marked so; its own end, delivered later, counts more."""
        journal = Journal()
        write(backend, journal.batch(started()))
        backend.set_status("r1", "killed", ended_ns=START_NS + 1, error="found dead")
        run = backend.run("r1")
        assert run is not None
        assert (run.status, run.ended_ns, run.error) == ("killed", START_NS + 1, "found dead")
        write(backend, journal.batch(RunEnded("finished", START_NS + 2)))
        run = backend.run("r1")
        assert run is not None
        assert (run.status, run.ended_ns, run.error) == ("finished", START_NS + 2, None)

    def test_heartbeat_only_grows(self, backend: Backend) -> None:
        """The latest sign of life counts, in whatever order they arrive; one without records counts too."""
        journal = Journal()
        write(backend, journal.batch(started(), heartbeat_ns=50))
        write(backend, journal.batch(Tag("a", "b", 1), heartbeat_ns=40))
        assert backend.runs()[0].heartbeat_ns == 50
        assert write(backend, journal.batch(heartbeat_ns=60)) is Outcome.DUPLICATE
        assert backend.runs()[0].heartbeat_ns == 60

    def test_environment_and_notes(self, backend: Backend) -> None:
        """The last environment counts; notes are kept in order."""
        early = Environment(time_ns=1, git_commit="aaa", packages={"torch": "2.13"})
        late = Environment(time_ns=2, git_commit="bbb", git_dirty=True, variables={"RANK": "0"})
        notes = (Note("amp", "not seen", 1), Note("loss", "no name", 2))
        write(backend, Journal().batch(started(), early, *notes, late))
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
        write(backend, Journal().batch(started(), Param("p", value, "user", 3)))
        (row,) = backend.params("r1")
        assert (row.value, type(row.value), row.source, row.revision, row.time_ns) == (value, type(value), "user", 0, 3)

    def test_param_changes_are_revisions(self, backend: Backend) -> None:
        """Another value is a new revision, the same value none; a bool is not a one."""
        told_values = [1, 1, 1.0, True, True, float("nan"), float("nan"), 1]
        journal = Journal()
        write(backend, journal.batch(started()))
        for time_ns, value in enumerate(told_values):
            write(backend, journal.batch(Param("p", value, f"s{time_ns}", time_ns), Param("a", 0, "user", time_ns)))
        rows = [row for row in backend.params("r1", revisions=True) if row.key == "p"]
        assert [(row.revision, row.time_ns) for row in rows] == [(0, 0), (1, 2), (2, 3), (3, 5), (4, 7)]
        assert [type(row.value) for row in rows] == [int, float, bool, float, int]
        assert [(row.key, row.revision) for row in backend.params("r1")] == [("a", 0), ("p", 4)]

    def test_last_tag_counts(self, backend: Backend) -> None:
        """A tag is overwritten, in one batch and over two."""
        journal = Journal()
        write(backend, journal.batch(started(), Tag("b", "1", 1), Tag("b", "2", 2), Tag("a", "x", 2)))
        write(backend, journal.batch(Tag("b", "3", 3)))
        assert backend.tags("r1") == {"a": "x", "b": "3"}

    def test_artifacts_come_back_as_told(self, backend: Backend) -> None:
        """In order of emission, the same content twice, and those without content with their reason."""
        digest = "ab" * 32
        told_artifacts = [
            Artifact("best.pt", 1, 10, digest=digest, path="/x/best.pt", kind="model", step=3),
            Artifact("last.pt", 2, 10, digest=digest, description="again", media_type="application/zip"),
            Artifact("data.csv", 3, 99, missing="deleted", role="input"),
        ]
        write(backend, Journal().batch(started(), *told_artifacts))
        assert list(backend.artifacts("r1")) == told_artifacts

    def test_text_of_a_run_is_only_text(self, backend: Backend) -> None:
        """Quotes, SQL, wildcards and markup are data in every place that takes text."""
        nasty = "'; DROP TABLE run; --\" %_ \\ <script> ../../etc/passwd \n ‮ 🦦"
        journal = Journal(nasty, "r'1")
        series = points(nasty, [1], [2.0], {nasty: nasty})
        write(
            backend, journal.batch(started("r'1", name=nasty, experiment=nasty), Tag(nasty, nasty, 1), series=[series])
        )
        assert backend.runs(experiment=nasty)[0].name == nasty
        assert backend.tags("r'1") == {nasty: nasty}
        assert told(backend.history("r'1", nasty, {nasty: nasty})) == {"steps": [1], "values": [2.0]}
        assert backend.position(nasty) == journal.next

    def test_names_that_differ_in_little(self, backend: Backend) -> None:
        """Case, accents, blanks at the end and ways to write a character count, in every name there is."""
        for name in SIMILAR:
            journal = Journal(f"journal {name}", f"run {name}")
            record = started(journal.run, experiment=name)
            series = [
                points(name, [1], [1.0]),
                points("x", [1], [1.0], {"c": name}),
                points("x", [1], [1.0], {name: "c"}),
            ]
            write(backend, journal.batch(record, Param(name, name, "user", 1), Tag(name, name, 1), series=series))
        for name in SIMILAR:
            run = f"run {name}"
            assert [row.run for row in backend.runs(experiment=name)] == [run]
            assert [(row.key, row.value) for row in backend.params(run)] == [(name, name)]
            assert backend.tags(run) == {name: name}
            assert len(backend.series([run])) == 3
            for key, context in ((name, {}), ("x", {"c": name}), ("x", {name: "c"})):
                assert told(backend.history(run, key, context)) == {"steps": [1], "values": [1.0]}
            assert backend.position(f"journal {name}") == 6

    def test_all_engines_list_in_one_order(self, backend: Backend) -> None:
        """By code points, as Python does: capitals first, and beyond the first 65,536 characters too."""
        journal = Journal()
        records = [record for name in SIMILAR for record in (Param(name, 1, "user", 1), Tag(name, name, 1))]
        write(backend, journal.batch(started(), *records, series=[points(name, [1], [1.0]) for name in SIMILAR]))
        write(backend, journal.batch(*(Param(name, 2, "user", 1) for name in SIMILAR)))
        expected = sorted(SIMILAR)
        assert [row.key for row in backend.params("r1")] == expected
        assert [row.key for row in backend.params("r1", revisions=True)][::2] == expected
        assert list(backend.tags("r1")) == expected
        assert [row.key for row in backend.series(["r1"])] == expected

    def test_the_longest_of_everything(self, backend: Backend) -> None:
        """What validation lets through fits: long names in characters of four bytes, long contexts that differ at their end
        only, large documents, and chunks that do not compress."""
        name, long = "🦦" * 128, "🦦" * 16_000
        identity = started(name=name, experiment=name, command=("x" * 60_000, long) * 4, script="\0" * 1_000)
        environment = Environment(time_ns=1, packages={str(number): long for number in range(15)})
        value = {"text": long, "list": list(range(5_000))}
        contexts = [{"c" * 512: "d" * 512, "e" * 512: "f" * 490 + end} for end in ("1", "2")]
        noise = np.random.default_rng(0)
        words = [np.frombuffer(noise.bytes(8 * 65_536), "<i8") for _ in range(3)]
        incompressible = SeriesPoints("noise", {}, *(column.tobytes() for column in words))
        write(
            backend,
            Journal("j" * 255).batch(
                identity,
                environment,
                Param(name, value, "user", 1),
                Tag(name, long, 1),
                Note(name, long, 1),
                Artifact(long, 1, 2**63 - 1, missing=long, path=long, description=long, media_type="m" * 255),
                RunEnded("failed", 1, error=long),
                series=[incompressible, *(points(name, [1], [1.0], context) for context in contexts)],
            ),
        )
        run = backend.run("r1")
        assert run is not None
        assert (run.identity, run.environment, run.error) == (identity, environment, long)
        assert backend.params("r1")[0].value == value
        assert backend.tags("r1") == {name: long}
        assert backend.artifacts("r1")[0].description == long
        assert [row.context for row in backend.series(["r1"]) if row.key == name] == contexts
        order = np.argsort(words[0], kind="stable")
        assert same_bits(backend.history("r1", "noise", {}).values, words[2][order].view(np.float64))

    # Points

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

    # Several at once

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

    # Deleting

    def test_a_deleted_run_is_gone(self, backend: Backend) -> None:
        """With everything that hangs off it; other runs stay, and it may start again."""
        for run in ("r1", "r2"):
            journal = Journal(f"j-{run}", run)
            artifacts = [Artifact(f"m{number}", 1, 10, digest=digest * 32) for number, digest in enumerate(("ab", run))]
            write(
                backend,
                journal.batch(
                    started(run),
                    Param("p", 1, "user", 1),
                    Tag("t", "v", 1),
                    Note("n", "m", 1),
                    *artifacts,
                    series=[points("x", [1], [1.0])],
                ),
            )
        assert list(backend.referenced()) == ["ab" * 32, "r1" * 32, "r2" * 32]
        assert backend.delete_run("r1") is True
        assert backend.delete_run("r1") is False
        assert backend.run("r1") is None
        assert not any([backend.params("r1"), backend.tags("r1"), backend.series(["r1"]), backend.artifacts("r1")])
        assert (backend.delivery("r1"), backend.position("j-r1")) == ([], 0)
        assert list(backend.referenced()) == ["ab" * 32, "r2" * 32]
        assert len(backend.artifacts("r2")) == 2
        assert told(backend.history("r2", "x", {})) == {"steps": [1], "values": [1.0]}
        write(backend, Journal("j-r1", "r1").batch(started("r1"), series=[points("x", [5], [5.0])]))
        assert told(backend.history("r1", "x", {})) == {"steps": [5], "values": [5.0]}

    # Company

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
                shared = [Tag("who", str(number), turn), Artifact("a", 1, 1, digest=f"{turn:064}")]
                batches = [journal.batch(*shared, series=[points("x", [turn], [1.0])]) for journal in journals]
                assert stores[number].write([Arrival(batch) for batch in batches]) == [Outcome.STORED] * len(runs)

        with ThreadPoolExecutor(len(stores)) as pool:
            list(pool.map(write_all, range(len(stores))))
        assert [row.count for row in backend.series(runs)] == [30] * len(runs)
        assert [len(backend.artifacts(run)) for run in runs] == [30] * len(runs)


class TokenContract:
    """What keeps the tokens must do; the fixture ``tokens`` opens an empty store."""

    def test_tokens_are_kept(self, tokens: TokenStore) -> None:
        """Oldest first, as they were added."""
        later = TokenRow("id2", "é 🦦", "read", "b" * 64, 20, expires_ns=99)
        sooner = TokenRow("id1", "ada", "ingest", "a" * 64, 10)
        for token in (later, sooner):
            tokens.add_token(token)
        assert list(tokens.tokens()) == [sooner, later]
        for taken in (TokenRow("id1", "x", "read", "c" * 64, 1), TokenRow("id3", "x", "read", "a" * 64, 1)):
            with pytest.raises(ValueError, match="there already"):
                tokens.add_token(taken)
        assert len(tokens.tokens()) == 2

    def test_tokens_are_revoked_once(self, tokens: TokenStore) -> None:
        """The first time counts; an unknown one is told so."""
        tokens.add_token(TokenRow("id1", "ada", "admin", "a" * 64, 10))
        assert tokens.revoke_token("id2", 5) is False
        assert tokens.revoke_token("id1", 50) is True
        assert tokens.revoke_token("id1", 60) is True
        assert [token.revoked_ns for token in tokens.tokens()] == [50]

    def test_the_latest_use_counts(self, tokens: TokenStore) -> None:
        """In whatever order several collectors tell it."""
        tokens.add_token(TokenRow("id1", "ada", "admin", "a" * 64, 10))
        for at_ns in (30, 20):
            tokens.token_used("id1", at_ns)
        tokens.token_used("nobody", 99)
        assert [token.last_used_ns for token in tokens.tokens()] == [30]
