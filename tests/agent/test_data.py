"""The data sets of a run: told at once, and again when their fingerprint is known."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from looptap import data, fingerprints
from looptap.data import NOT_YET, TOO_LATE, RunData, fitting
from looptap.describing import Describers
from looptap.events import Dataset
from looptap.fingerprints import Files, Fingerprint

KNOWN = Fingerprint("abc", "sampled content")


class Told:
    def __init__(self) -> None:
        self.records: list[Dataset] = []
        self.notes: list[str] = []
        self.data = RunData(self.records.append, lambda topic, text: self.notes.append(text), lambda text: text)


@pytest.fixture
def told() -> Told:
    return Told()


def record(name: str = "digits", **more: Any) -> Dataset:
    return Dataset(name, 1, **more)


def test_known_at_once(told: Told) -> None:
    """One record, with its fingerprint."""
    told.data.tell(record(), [KNOWN])
    assert told.records == [record(fingerprint="abc", covers="sampled content", algorithm="sha256")]


def test_looked_for_beside(told: Told, tmp_path: Path) -> None:
    """First without a fingerprint, then with it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("x")
    told.data.tell(record(root=str(tmp_path)), [Files(str(tmp_path), ("data",)), KNOWN])
    told.data.settle(30)
    first, last = told.records
    assert (first.fingerprint, first.missing) == (None, NOT_YET)
    assert (last.covers, last.missing) == ("names, sizes, mtimes + sampled content", None)
    assert (last.root, last.details) == (str(tmp_path / "data"), {"files": 1, "size_bytes": 1})


def test_what_cannot_be_looked_into(told: Told, tmp_path: Path) -> None:
    """The reason; or what else is known of it."""
    nothing = Files(str(tmp_path / "nothing"))
    told.data.tell(record("a"), [nothing])
    told.data.tell(record("b"), [nothing], [KNOWN])
    told.data.settle(30)
    last = {one.name: one for one in told.records}
    assert (last["a"].fingerprint, last["a"].missing) == (None, "its files are not there")
    assert (last["b"].fingerprint, last["b"].missing) == ("abc", None)


def test_the_same_again_is_not_told_again(told: Told) -> None:
    """Whenever it is seen; other data of that name has a number, and in another role it is told there."""
    for time_ns in (1, 2):
        told.data.tell(Dataset("digits", time_ns), [KNOWN])
        told.data.tell(Dataset("digits", time_ns), [Fingerprint("other", "sampled content")])
        told.data.tell(Dataset("digits", time_ns, role="test"), [KNOWN])
    assert [(one.name, one.role, one.fingerprint) for one in told.records] == [
        ("digits", "train", "abc"),
        ("digits#2", "train", "other"),
        ("digits", "test", "abc"),
    ]


def test_new_data_for_every_pass(told: Told) -> None:
    """Is told up to a bound, and that there is more is told once."""
    for number in range(data.MOST_IN_RUN + 20):
        told.data.tell(record(), [Fingerprint(str(number), "sampled content")])
    assert len(told.records) == data.MOST_IN_RUN
    assert len(set(told.notes)) == 1


def test_end_of_the_run_does_not_wait_for_ever(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known by then stays unknown, and nothing is written later, by nobody."""
    began, may_go_on = threading.Event(), threading.Event()

    def hang(*words: Any, **more: Any) -> Any:
        began.set()
        may_go_on.wait(60)
        return fingerprints.Made(KNOWN, "/x", 1, 1)

    monkeypatch.setattr(data, "of_files", hang)
    told.data.tell(record("a"), [Files("/x")])
    told.data.tell(record("b"), [Files("/y")])
    assert began.wait(30)
    told.data.settle(0.05)
    assert [(one.name, one.missing) for one in told.records[2:]] == [("a", TOO_LATE), ("b", TOO_LATE)]
    may_go_on.set()
    for thread in threading.enumerate():
        if thread.name == "looptap-data":
            thread.join(30)
    told.data.tell(record("c"), [KNOWN])
    assert len(told.records) == 4


def test_telling_does_not_wait(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the thread hangs in a file system, more is told."""
    may_go_on = threading.Event()

    def hang(*words: Any, **more: Any) -> Any:
        may_go_on.wait(60)
        return fingerprints.Made(KNOWN, "/x", 1, 1)

    monkeypatch.setattr(data, "of_files", hang)
    for number in range(20):
        told.data.tell(record(str(number)), [Files("/x")])
    assert len(told.records) == 20
    may_go_on.set()
    told.data.settle(30)
    assert [one.fingerprint for one in told.records[20:]] == ["abc"] * 20


def test_no_file_system_is_asked_by_who_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set is described without a look at its root: a network disk may hang."""

    class Pictures:
        root = "/net/pictures"

    def forbidden(*words: Any, **more: Any) -> Any:
        raise AssertionError(words)

    for name in ("stat", "lstat", "scandir", "listdir", "open"):
        monkeypatch.setattr(os, name, forbidden)
    described = Describers().describe(Pictures())
    monkeypatch.undo()
    assert (described.root, described.parts) == ("/net/pictures", [Files("/net/pictures", ("Pictures",))])


def test_what_a_store_takes() -> None:
    """Names are cut, and what is too much is left out."""
    assert fitting({"k" * 1_000: [{"a\0b": 1}]}) == {"k" * 120: [{"a b": 1}]}
    assert fitting({str(number): "x" * 1_000 for number in range(100)}) is None
    assert len(msgspec.json.encode(fitting({str(number): "x" * 100 for number in range(100)}))) > 10_000


def test_split_root_and_transform_by_their_usual_names() -> None:
    """As torchvision, and those who write like it, name them."""

    class Pictures:
        def __init__(self, **given: Any) -> None:
            vars(self).update(given)

        def transform(self, item: Any) -> Any:
            raise AssertionError

        @property
        def split(self) -> str:
            raise AssertionError

    class Resize:
        def __init__(self) -> None:
            self.size = 32

    describe = Describers().describe
    assert describe(Pictures(train=True)).split == "train"
    assert describe(Pictures(train=False)).split == "test"
    assert describe(Pictures(train=1)).split is None
    assert describe(Pictures(image_set="val")).split == "val"
    assert describe(Pictures(root="~/x")).root == os.path.expanduser("~/x")
    assert describe(Pictures(data_dir="s3://bucket/x")).missing == "its files are not on this machine"
    assert describe(Pictures()).transform is None
    assert describe(Pictures(transform=Resize())).transform == "Resize(size=32)"
    assert describe(Pictures(transform=None, target_transform=len)).transform == "target_transform=len"
    assert describe(Pictures()).missing == "nothing that identifies its content is known"
