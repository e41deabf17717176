"""What was made of what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from looptap.events import Artifact
from looptap_collector.backend import Backend
from looptap_collector.embedded import open_backend
from looptap_collector.lineage import graph
from looptap_collector.testing.batches import Journal, started, write

RAW, CLEAN, MODEL, TUNED, REPORT, OTHER = (letter * 64 for letter in "abcdef")


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """raw → (clean) → clean → (train) → model → (tune) → tuned → (report) → report; and (other) that reads clean."""
    backend = open_backend(tmp_path, create=True)
    for run, reads, writes in (
        ("clean", [RAW], [CLEAN]),
        ("train", [CLEAN], [MODEL]),
        ("tune", [MODEL, CLEAN], [TUNED]),
        ("report", [TUNED], [REPORT]),
        ("other", [CLEAN], [OTHER]),
    ):
        inputs = [Artifact(digest[:3], 1, 1, digest=digest, role="input") for digest in reads]
        outputs = [Artifact(digest[:3], 2, 1, digest=digest) for digest in writes]
        write(backend, Journal(run, run).batch(started(run), *inputs, *outputs))
    yield backend
    backend.close()


def test_upwards_is_what_it_was_made_of(backend: Backend) -> None:
    """From a model to its run, the data that it read, the run that made the data, and the raw data."""
    found = graph(backend, digest=MODEL, direction="up")
    assert found.runs == {"train", "clean"}
    assert found.digests == {MODEL, CLEAN, RAW}
    assert [(edge.run, edge.artifact.role, edge.artifact.digest) for edge in found.edges] == [
        ("clean", "input", RAW),
        ("clean", "output", CLEAN),
        ("train", "input", CLEAN),
        ("train", "output", MODEL),
    ]
    assert found.complete


def test_downwards_is_what_was_made_of_it(backend: Backend) -> None:
    """From the clean data to everything that it went into."""
    found = graph(backend, digest=CLEAN, direction="down")
    assert found.runs == {"train", "tune", "report", "other"}
    assert found.digests == {CLEAN, MODEL, TUNED, REPORT, OTHER}


def test_from_a_run_both_ways(backend: Backend) -> None:
    """A run is between its inputs and its outputs; what only shares an input with it is not among them."""
    found = graph(backend, run="tune", direction="both")
    assert found.runs == {"clean", "train", "tune", "report"}
    assert found.digests == {RAW, CLEAN, MODEL, TUNED, REPORT}


def test_depth_cuts_and_says_so(backend: Backend) -> None:
    """With few steps only the neighbours are there, and the answer says that there is more."""
    found = graph(backend, run="report", direction="up", depth=1)
    assert (found.runs, found.digests, found.complete) == ({"report"}, {TUNED}, False)
    assert graph(backend, run="clean", direction="up", depth=1).complete


def test_unknown_beginnings_are_alone(backend: Backend) -> None:
    """A file that nobody knows has no lineage."""
    found = graph(backend, digest="0" * 64)
    assert (found.runs, found.edges, found.complete) == (set(), [], True)
