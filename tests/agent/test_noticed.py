"""Which files get on record, by the real recorder into a real journal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.journal.scenes import contents, folder_of, new_writer
from looptap.events import File, Note
from looptap.journal.writer import JournalWriter
from looptap.noticed import MOST_SMALL_INPUTS
from looptap.recorder import Recorder
from looptap.redaction import Redactor


@pytest.fixture
def files(tmp_path: Path) -> Iterator[JournalWriter]:
    """The journal of the lane of files."""
    writer = new_writer(tmp_path / "files")
    yield writer
    writer.close()


@pytest.fixture
def record(writer: JournalWriter, files: JournalWriter) -> Recorder:
    recorder = Recorder(lambda: writer, Redactor())
    recorder.attach(writer, lambda: files)
    return recorder


def noticed(journal: JournalWriter) -> list[File]:
    return [item for _, _, item in contents(folder_of(journal)) if isinstance(item, File)]


def written(path: Path, content: bytes = b"weights") -> Path:
    path.write_bytes(content)
    return path


def test_one_file_is_one_entry(record: Recorder, files: JournalWriter, tmp_path: Path) -> None:
    """Two layers that see the same file; written again it is another version, and a name that the program gives it is news."""
    path = written(tmp_path / "model.pt")
    record.file(path, kind="model", step=1)
    record.file(str(path), kind="model", step=1)
    record.file(path, name="model.pt", step=1)
    record.file(path, name="best", step=1)
    written(path, b"other weights")
    record.file(path, kind="model", step=2)
    assert [(file.name, file.step, file.size_bytes) for file in noticed(files)] == [
        ("model.pt", 1, 7),
        ("best", 1, 7),
        ("model.pt", 2, 13),
    ]
    assert noticed(files)[0].inode == os.stat(path).st_ino


def test_replaced_by_another_of_the_same_size_and_time(record: Recorder, files: JournalWriter, tmp_path: Path) -> None:
    """A copy that keeps the time of its original is told apart by its inode."""
    path = written(tmp_path / "model.pt")
    record.file(path)
    state = path.stat()
    other = written(tmp_path / "other", b"WEIGHTS")
    os.utime(other, ns=(state.st_mtime_ns, state.st_mtime_ns))
    other.rename(path)
    record.file(path)
    assert len(noticed(files)) == 2


def test_read_again_and_again(record: Recorder, files: JournalWriter, tmp_path: Path) -> None:
    """A cached file that every epoch reads is one input; what the run has written itself is none."""
    data, own = written(tmp_path / "data.pt"), written(tmp_path / "best.pt")
    record.file(own)
    for _ in range(50):
        record.file(data, role="input")
        record.file(own, role="input")
    assert [(file.name, file.role) for file in noticed(files)] == [("best.pt", "output"), ("data.pt", "input")]


def test_thousands_of_small_inputs(
    record: Recorder, writer: JournalWriter, files: JournalWriter, tmp_path: Path
) -> None:
    """Of a data set that is read file by file only the first are on record, with one note; a large file still is."""
    for number in range(MOST_SMALL_INPUTS + 200):
        record.file(written(tmp_path / f"{number}.pt"), role="input", kind="model")
    with open(tmp_path / "large.pt", "wb") as large:
        large.truncate(20 * 2**20)
    record.file(tmp_path / "large.pt", role="input", kind="model")
    record.file(tmp_path / "0.pt", role="input", kind="dataset")
    names = [file.name for file in noticed(files)]
    assert names == [f"{number}.pt" for number in range(MOST_SMALL_INPUTS)] + ["large.pt"]
    notes = [item.message for _, _, item in contents(folder_of(writer)) if isinstance(item, Note)]
    assert notes == [f"more than {MOST_SMALL_INPUTS} small files were read; the others are not recorded"]


def test_read_before_the_run(tmp_path: Path) -> None:
    """Weights that are loaded before the training shows itself begin no run, and are an input of every run after it."""
    started: list[JournalWriter] = []

    def begin() -> JournalWriter:
        started.append(new_writer(tmp_path / "journal"))
        recorder.attach(started[-1])
        return started[-1]

    recorder = Recorder(begin, Redactor())
    path = written(tmp_path / "pretrained.pt")
    recorder.file(path, role="input")
    recorder.file(path, role="input")
    assert started == []
    for _ in range(2):
        recorder.metrics({"loss": 1.0}, 0)
        recorder.file(path, role="input")
        assert [(file.name, file.role) for file in noticed(started[-1])] == [("pretrained.pt", "input")]
        recorder.detach()
    for writer in started:
        writer.close()


def test_silence(record: Recorder, files: JournalWriter, tmp_path: Path) -> None:
    """Nothing while this thread is told to be silent, or from a process that is; a folder or a pipe is no input."""
    path = written(tmp_path / "model.pt")
    with record.suppress():
        record.file(path)
    os.mkfifo(tmp_path / "pipe")
    record.file(tmp_path / "pipe", role="input")
    record.file(tmp_path, role="input")
    record._is_silent = lambda: True
    record.file(path)
    assert noticed(files) == []
    with pytest.raises(OSError, match="nothing"):
        Recorder(lambda: None, Redactor()).file(tmp_path / "nothing", role="input")
