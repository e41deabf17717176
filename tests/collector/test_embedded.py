"""The collector inside the training process: a folder that is made, used and found again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from looptap.events import File, Rejected, RunEnded
from looptap.sinks import Sink, open_sink
from looptap_collector.artifacts import ArtifactsUnavailable
from looptap_collector.embedded import Embedded, artifacts_of, open_backend
from looptap_collector.testing.batches import Journal, points, started, told


def test_a_store_is_made_where_there_is_none(tmp_path: Path) -> None:
    """The folder is the owner's only, git ignores it, and it can be opened again."""
    folder = tmp_path / "project" / ".looptap"
    Embedded(folder).close()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"
    assert (folder / "looptap.db").stat().st_mode & 0o777 == 0o600
    Embedded(folder).close()


def test_the_agent_opens_it_as_its_sink(tmp_path: Path) -> None:
    """What the agent delivers through its sink, a reader of the folder finds."""
    sink: Sink = open_sink(str(tmp_path / "store"))
    journal = Journal()
    batch = journal.batch(started(), series=[points("loss", [0, 1], [0.5, 0.25])])
    sink.deliver(batch)
    sink.deliver(batch)
    assert sink.position("j1") == journal.next
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    found = os.stat(model)
    artifact = sink.keep_file(File(str(model), "model.pt", 1, found.st_size, found.st_mtime_ns))
    assert artifact is not None
    assert artifact.digest is not None
    sink.deliver(journal.batch(artifact, RunEnded("finished", 2)))
    sink.close()

    backend = open_backend(tmp_path / "store", create=False)
    assert [run.status for run in backend.runs()] == ["finished"]
    assert told(backend.history("r1", "loss", {})) == {"steps": [0, 1], "values": [0.5, 0.25]}
    assert list(backend.artifacts("r1")) == [artifact]
    digest = artifact.digest
    assert (tmp_path / "store" / "artifacts" / digest[:2] / digest[2:4] / digest).read_bytes() == b"weights"
    backend.close()


def test_bad_batches_are_rejected(tmp_path: Path) -> None:
    """The embedded sink checks like a receiver would."""
    sink = Embedded(tmp_path / "store")
    with pytest.raises(Rejected):
        sink.deliver(Journal().batch(started(name="")))
    sink.close()


def test_reading_makes_no_store(tmp_path: Path) -> None:
    """Looking at a folder without a store leaves it as it is and says how to get one."""
    with pytest.raises(FileNotFoundError, match=r"no looptap store in .*LOOPTAP_STORE"):
        open_backend(tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


def test_files_may_go_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LOOPTAP_ARTIFACT_STORE names the place of the files; one that is no good stops the files only."""
    sink = Embedded(tmp_path / "store")
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    found = os.stat(model)
    file = File(str(model), "model.pt", 1, found.st_size, found.st_mtime_ns)
    monkeypatch.setenv("LOOPTAP_ARTIFACT_STORE", "ftp://host/x")
    with pytest.raises(ArtifactsUnavailable):
        sink.keep_file(file)
    sink.deliver(Journal().batch(started()))
    monkeypatch.setenv("LOOPTAP_ARTIFACT_STORE", str(tmp_path / "elsewhere"))
    digest = sink.keep_file(file).digest
    sink.close()
    assert digest is not None
    with artifacts_of(tmp_path / "store").open(digest) as kept:
        assert kept.read() == b"weights"
    assert not (tmp_path / "store" / "artifacts").exists()
