"""Runs, params, tags, artifacts and notes are kept as they were told, and told in one order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from looptap.events import Artifact, Environment, Note, Param, RunEnded, SeriesPoints, Tag
from looptap_collector.backend import Backend, Outcome
from looptap_collector.testing.batches import START_NS, Journal, points, same_bits, started, told, write

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


class RecordContract:
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
            Artifact("model.pt", 4, 12, digest="cd" * 32, weights="ef" * 32),
        ]
        write(backend, Journal().batch(started(), *told_artifacts))
        assert list(backend.artifacts("r1")) == told_artifacts

    def test_files_are_found_by_their_weights(self, backend: Backend) -> None:
        """As by their content: those of several files, the latest first, and no others."""
        same = [
            Artifact(name, 1, 1, digest=digest * 32, weights="ef" * 32) for name, digest in (("a", "01"), ("b", "02"))
        ]
        other = Artifact("c", 1, 1, digest="03" * 32, weights="04" * 32)
        write(backend, Journal().batch(started(), *same, other, Artifact("d", 1, 1, digest="05" * 32)))
        assert [edge.artifact for edge in backend.edges(digests=["ef" * 32])] == same[::-1]
        assert [edge.artifact for edge in backend.edges(digests=["02" * 32, "04" * 32])] == [other, same[1]]
        assert [edge.artifact.name for edge in backend.edges(digests=["ef" * 32, "05" * 32], limit=2)] == ["d", "b"]
        assert backend.edges(digests=["ef" * 32], role="input") == []

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
