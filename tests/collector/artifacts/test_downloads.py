"""Files that come out of a store: verified, whole, and only where the caller wants them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from collector.artifacts.contract import digest_of, put
from looptap.events import Artifact
from looptap_collector.artifacts import DamagedArtifact, LocalArtifacts
from looptap_collector.artifacts.downloads import UnknownArtifact, choose, file_name, save

CONTENT = os.urandom(3_000_000)


def told(name: str, content: bytes | None, missing: str | None = None) -> Artifact:
    return Artifact(name, 1, 7, None if content is None else digest_of(content), missing)


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifacts:
    return LocalArtifacts(tmp_path / "artifacts")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def test_by_name_or_digest() -> None:
    """A name means its newest content; a digest, or enough of it, means that one."""
    first, second, other = told("model.pt", b"1"), told("model.pt", b"2"), told("data.csv", b"3")
    gone = told("model.pt", None, "superseded")
    artifacts = [first, other, second, gone]
    assert choose(artifacts, "model.pt") is second
    assert choose(artifacts, digest_of(b"1")) is first
    assert choose(artifacts, digest_of(b"3")[:6]) is other


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("model", r"^the run has no artifact 'model'; it has: model.pt, lost.pt$"),
        (digest_of(b"1")[:5], "has no artifact"),
        ("", "has no artifact"),
        ("lost.pt", r"^the content of 'lost.pt' was not kept: deleted$"),
    ],
)
def test_what_the_run_does_not_have(which: str, message: str) -> None:
    """The line says what there is, or why the content is not."""
    with pytest.raises(UnknownArtifact, match=message):
        choose([told("model.pt", b"1"), told("lost.pt", None, "deleted")], which)
    with pytest.raises(UnknownArtifact, match="it has: none"):
        choose([], which)


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("model.pt", "model.pt"),
        ("runs/best model.pt", "best-model.pt"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\x", "x"),
        ("%2e%2e%2fx", "2e-2e-2fx"),
        (";/../", "artifact"),
        ("http:///#/../../etc/", "etc"),
        ("/etc/passwd", "passwd"),
        ("C:\\x", "x"),
        ("~root", "root"),
        ("..", "artifact"),
        ("", "artifact"),
        (".bashrc", "bashrc"),
        ("a\0b\nc\u202ed", "a-b-c-d"),
        ("x" * 5000 + ".pt", "x" * 97 + ".pt"),
        ("\udc80", "artifact"),
    ],
)
def test_names_of_files(name: str, cleaned: str) -> None:
    """Whatever a run calls its file, only the cleaned last part names one here."""
    assert file_name(name) == cleaned


def test_saved_whole(store: LocalArtifacts, here: Path, tmp_path: Path) -> None:
    """The file has the content and the permissions that a new file has; progress goes up to the size."""
    seen: list[tuple[int, int]] = []
    save(store, put(store, tmp_path, CONTENT), here / "model.pt", progress=lambda *now: seen.append(now))
    assert (here / "model.pt").read_bytes() == CONTENT
    (here / "other").touch()
    assert (here / "model.pt").stat().st_mode == (here / "other").stat().st_mode
    assert len(seen) > 1
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in here.iterdir() if path.name.startswith(".")] == []


def test_damaged_content_makes_no_file(store: LocalArtifacts, here: Path, tmp_path: Path) -> None:
    """Content that is not what the digest says leaves nothing, and what was there stays."""
    digest = put(store, tmp_path, CONTENT)
    (tmp_path / "artifacts" / digest[:2] / digest[2:4] / digest).write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(DamagedArtifact):
        save(store, digest, here / "new.pt")
    (here / "old.pt").write_bytes(b"old")
    with pytest.raises(DamagedArtifact):
        save(store, digest, here / "old.pt", overwrite=True)
    assert [path.name for path in here.iterdir()] == ["old.pt"]
    assert (here / "old.pt").read_bytes() == b"old"


def test_nothing_is_replaced_unasked(store: LocalArtifacts, here: Path, tmp_path: Path) -> None:
    """A file, or a link that leads nowhere, stays; with ``overwrite`` it is replaced, and a link is not followed."""
    digest = put(store, tmp_path, CONTENT)
    (here / "file").write_bytes(b"old")
    (here / "link").symlink_to(here / "file")
    (here / "dangling").symlink_to(here / "nowhere")
    for name in ("file", "link", "dangling"):
        with pytest.raises(FileExistsError):
            save(store, digest, here / name)
    save(store, digest, here / "link", overwrite=True)
    assert (here / "file").read_bytes() == b"old"
    assert (here / "link").read_bytes() == CONTENT
    assert not (here / "link").is_symlink()
    assert not (here / "nowhere").exists()


def test_a_file_that_comes_meanwhile_stays(store: LocalArtifacts, here: Path, tmp_path: Path) -> None:
    """A file that appears during the download is not replaced either."""
    digest = put(store, tmp_path, CONTENT)
    with pytest.raises(FileExistsError, match=r"model\.pt"):
        save(store, digest, here / "model.pt", progress=lambda *now: (here / "model.pt").touch())
    assert [(path.name, path.stat().st_size) for path in here.iterdir()] == [("model.pt", 0)]


def test_an_error_names_the_file_that_was_wanted(store: LocalArtifacts, here: Path, tmp_path: Path) -> None:
    """Not the temporary one."""
    with pytest.raises(OSError, match=r"nowhere/model\.pt"):
        save(store, put(store, tmp_path, CONTENT), here / "nowhere" / "model.pt")
