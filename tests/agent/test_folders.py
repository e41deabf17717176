"""What one call has written: files are told from those that lay there before, and named by where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integrations.recording import Recording
from looptap.folders import Place, checkpoint, path_of


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: str, text: str = "content") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def names(record: Recording) -> list[str | None]:
    return [file["name"] for file in record.files]


def test_one_file() -> None:
    """It keeps its own name; as it was, it is not written."""
    record, place = Recording(), Place("model.keras")
    assert place.files() == {}
    write("model.keras")
    place.keep(record, {}, step=3, description="best")
    before = place.files()
    place.keep(Recording(), before)
    assert record.files == [
        {
            "path": os.path.abspath("model.keras"),
            "name": None,
            "role": "output",
            "kind": "model",
            "step": 3,
            "description": "best",
        }
    ]
    unchanged = Recording()
    place.keep(unchanged, before)
    assert unchanged.files == []


def test_folder() -> None:
    """Each file below it that is new or changed, under the folder's name; what lies beside it is not looked at."""
    write("saved/old.txt")
    write("saved/variables/index", "1")
    write("saved.txt")
    record, place = Recording(), Place("saved/")
    before = place.files()
    write("saved/variables/index", "12")
    write("saved/variables/data")
    write("saved/saved_model.pb")
    place.keep(record, before)
    assert names(record) == ["saved/saved_model.pb", "saved/variables/data", "saved/variables/index"]


def test_names_that_begin_alike() -> None:
    """A checkpoint is an index and its data; the next one is another."""
    record, place = Recording(), Place("run/ckpt-1", checkpoint("run/ckpt-1"))
    for name in ("ckpt-1.index", "ckpt-1.data-00000-of-00001", "ckpt-10.index", "ckpt-1.index.bak", "checkpoint"):
        write(f"run/{name}")
    place.keep(record, role="input")
    assert names(record) == ["run/ckpt-1.data-00000-of-00001", "run/ckpt-1.index"]
    assert {file["role"] for file in record.files} == {"input"}


def test_nothing_is_followed_or_raised() -> None:
    """Links to folders, pipes, what is not there, and what is no path."""
    write("elsewhere/large.bin")
    write("saved/model")
    os.symlink("../elsewhere", "saved/link")
    os.symlink("../nowhere", "saved/broken")
    os.mkfifo("saved/pipe")
    assert [os.path.relpath(path) for path in Place("saved").files()] == ["saved/model"]
    assert Place("missing/model", checkpoint("missing/model")).files() == {}
    assert Place("a\0b", checkpoint("a\0b")).files() == {}


def test_what_is_a_path() -> None:
    """A name on this machine; an address, bytes and an open file are none."""
    assert [path_of(given) for given in ("a/b", Path("a"))] == ["a/b", "a"]
    with open("f", "wb") as file:
        assert [path_of(given) for given in ("gs://bucket/model", "", b"a", file, None, 3)] == [None] * 6
