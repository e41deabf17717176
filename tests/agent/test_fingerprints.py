"""The same files have the same fingerprint, others another one."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from looptap import fingerprints
from looptap.fingerprints import CONTENT, MANIFEST, Files, Fingerprint, Unknown, of_files, together


def fill(root: Path, names: list[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
        os.utime(path, ns=(10**18, 10**18))
    return root


NAMES = ["a.png", "b/c.png", "b/d/e.png", "ä\n.png", "z"]


def print_of(root: Path, **how: Any) -> str:
    return of_files(Files(str(root)), **how).fingerprint.value


def test_same_files_same_fingerprint(tmp_path: Path) -> None:
    """Wherever they lie, in whatever order they were written and are listed."""
    one, other = fill(tmp_path / "one", NAMES), fill(tmp_path / "deeper" / "other", NAMES[::-1])
    made = of_files(Files(str(one)))
    assert made.fingerprint == of_files(Files(str(other))).fingerprint
    assert made.fingerprint.covers == MANIFEST
    assert (made.files, made.size_bytes) == (5, sum(len(f"content of {name}".encode()) for name in NAMES))


def test_order_of_listing_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system gives names in any order."""
    root = fill(tmp_path / "data", NAMES)
    expected = print_of(root)
    listing = fingerprints._entries

    def turned(*words: Any) -> Iterator[Any]:
        yield from list(listing(*words))[::-1]

    monkeypatch.setattr(fingerprints, "_entries", turned)
    assert print_of(root) == expected


@pytest.mark.parametrize("change", ["content", "time", "name", "new", "gone", "moved"])
def test_a_change_shows(tmp_path: Path, change: str) -> None:
    """Whatever happens to one file."""
    root = fill(tmp_path / "data", NAMES)
    before, target = print_of(root), root / "b" / "c.png"
    facts = target.stat()
    if change == "content":
        target.write_text("longer than before, by some")
        os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    elif change == "time":
        os.utime(target, ns=(1, 1))
    elif change == "name":
        target.rename(root / "b" / "C.png")
    elif change == "new":
        (root / "b" / "empty").touch()
    elif change == "gone":
        target.unlink()
    else:
        target.rename(root / "c.png")
    assert print_of(root) != before


def test_content_on_request(tmp_path: Path) -> None:
    """By content, the time does not matter, and a change within the same second and size shows."""
    root = fill(tmp_path / "data", NAMES)
    before, target = print_of(root, content=True), root / "z"
    os.utime(target, ns=(5, 5))
    assert print_of(root, content=True) == before
    target.write_text("content of Z")
    assert print_of(root, content=True) != before
    assert of_files(Files(str(root)), content=True).fingerprint.covers == "names, content"


def test_one_file_is_its_content(tmp_path: Path) -> None:
    """The SHA-256 that every other tool gives."""
    path = tmp_path / "x.csv"
    path.write_bytes(b"a,b\n" * 10**6)
    made = of_files(Files(str(path)))
    assert made.fingerprint == Fingerprint(hashlib.sha256(path.read_bytes()).hexdigest(), CONTENT)


def test_folder_of_its_own_is_preferred(tmp_path: Path) -> None:
    """Of a root that holds several data sets, what is of this one; the first that is there."""
    fill(tmp_path / "root", ["MNIST/raw/x", "CIFAR10/y", "other"])
    made = of_files(Files(str(tmp_path / "root"), ("nothing", "MNIST")))
    assert (made.files, made.place) == (1, str(tmp_path / "root" / "MNIST"))


def test_links_and_odd_files(tmp_path: Path) -> None:
    """A circle of links ends, a link to a file counts as the file, pipes and broken links and our own store do not."""
    root = fill(tmp_path / "data", ["a", ".looptap/looptap.db"])
    (root / "circle").symlink_to(root)
    (root / "broken").symlink_to(root / "nothing")
    (root / "again").symlink_to(root / "a")
    os.mkfifo(root / "pipe")
    assert of_files(Files(str(root))).files == 2


def test_what_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason, in few words."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = fill(tmp_path / "home", ["x"])
    here = fill(tmp_path / "project" / "work", ["x"])
    monkeypatch.chdir(here)
    os.mkfifo(tmp_path / "pipe")
    for root, reason in (
        (here, "working directory"),
        (here.parent, "working directory"),
        (home, "home folder"),
        (Path("/"), "a folder above it"),
        (tmp_path / "nothing", "not there"),
        (tmp_path / "pipe", "neither a file nor a folder"),
        (here / "x" / "y", "cannot be read"),
    ):
        with pytest.raises(Unknown, match=reason):
            of_files(Files(str(root)))
    with pytest.raises(Unknown, match="no path"):
        of_files(Files("a\0b"))


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many files, too much time, or a run that ended: none, and soon."""
    root = fill(tmp_path / "data", [f"{number}" for number in range(300)])
    with pytest.raises(Unknown, match="the run ended"):
        of_files(Files(str(root)), is_wanted=lambda: False)
    monkeypatch.setattr(fingerprints, "MOST_SECONDS", -1.0)
    with pytest.raises(Unknown, match="too long"):
        of_files(Files(str(root)))
    monkeypatch.undo()
    monkeypatch.setattr(fingerprints, "MOST_FILES", 299)
    with pytest.raises(Unknown, match="more than 299 files"):
        of_files(Files(str(root)))


def test_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """No digest of something that never was."""
    path = tmp_path / "growing"
    path.write_bytes(bytes(3 * 2**20))
    calls: list[int] = []

    def is_wanted() -> bool:
        calls.append(1)
        if len(calls) == 1:
            with path.open("ab") as file:
                file.write(b"more")
        return True

    with pytest.raises(Unknown, match="changed while it was read"):
        of_files(Files(str(path)), is_wanted=is_wanted)


def test_together() -> None:
    """In their order, of what each covers; one alone stays itself."""
    one, other = Fingerprint("1", "content"), Fingerprint("2", "indices")
    assert together([one]) is one
    assert together([one, other]) != together([other, one])
    assert together([one, other, one]).covers == "content + indices"


def test_100_000_files(tmp_path: Path) -> None:
    """Are listed, while other threads get on."""
    root = tmp_path / "many"
    for folder in range(100):
        (root / str(folder)).mkdir(parents=True)
        for number in range(1_000):
            os.close(os.open(root / str(folder) / str(number), os.O_CREAT | os.O_WRONLY))
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(of_files(Files(str(root)))))
    thread.start()
    turns = 0
    while thread.is_alive():
        thread.join(0.001)
        turns += 1
    assert found[0].files == 100_000
    assert turns > 20


def test_some_of_the_files(tmp_path: Path) -> None:
    """Those that are named and no others, in any order, by their content where that is asked for; a missing one is told."""
    root = fill(tmp_path / "data", NAMES)

    def made(*names: str, **how: Any) -> str:
        return of_files(Files(str(root), only=names), **how).fingerprint.value

    assert made("a.png", "b/c.png") == made("b/c.png", "a.png")
    assert made(*NAMES) == print_of(root)
    assert len({made("a.png", "z"), made("a.png", "b/c.png"), made("a.png", "z", content=True)}) == 3
    before = made("a.png", "z")
    fill(root, ["another"])
    assert made("a.png", "z") == before
    with pytest.raises(Unknown, match="not there"):
        made("a.png", "gone")
