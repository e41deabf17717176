"""A file is what it was when it was noticed, or it has no digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from looptap import digests
from looptap.digests import BLOCK_BYTES, OpenFile, Unobtainable, fingerprint
from looptap.events import File
from looptap_collector.artifacts import LocalArtifacts
from looptap_collector.artifacts.keeping import keep

SIZE = 5 * BLOCK_BYTES + 17


def noticed(path: Path, **facts: int) -> File:
    state = os.stat(path)
    found = {"size_bytes": state.st_size, "modified_ns": state.st_mtime_ns, "inode": state.st_ino, **facts}
    return File(str(path), path.name, 1, role="input", **found)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A large file that nobody has touched for a while."""
    path = tmp_path / "model.pt"
    path.write_bytes(os.urandom(SIZE))
    os.utime(path, ns=(10**18, 10**18))
    return path


def overwrite(path: Path) -> None:
    """In place, by as many bytes."""
    with open(path, "r+b") as file:
        file.write(b"changed")


def append(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, BLOCK_BYTES)


def rename_over(path: Path) -> None:
    """As those do who write a checkpoint safely."""
    other = path.with_suffix(".new")
    other.write_bytes(os.urandom(SIZE))
    os.replace(other, path)


def delete(path: Path) -> None:
    path.unlink()


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe_in_its_place(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to_another(path: Path) -> None:
    """Of the same size and time."""
    other = path.with_suffix(".other")
    other.write_bytes(os.urandom(SIZE))
    os.utime(other, ns=(10**18, 10**18))
    path.unlink()
    path.symlink_to(other)


def while_hashing(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """It happens after the third block has been read."""
    read, blocks = os.pread, []

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        data = read(descriptor, size, offset)
        blocks.append(offset)
        if len(blocks) == 3:
            happens()
        return data

    monkeypatch.setattr(digests.os, "pread", pread)


def while_copying(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> list[int]:
    from looptap_collector.artifacts import sources

    read, blocks = os.read, []

    def slowly(descriptor: int, size: int) -> bytes:
        data = read(descriptor, size)
        blocks.append(len(data))
        if len(blocks) == 3:
            happens()
        return data

    monkeypatch.setattr(sources.os, "read", slowly)
    return blocks


def test_digest(path: Path) -> None:
    """Of a file that stays what it was."""
    artifact = fingerprint(noticed(path))
    assert (artifact.digest, artifact.missing) == (hashlib.sha256(path.read_bytes()).hexdigest(), None)
    assert (artifact.role, artifact.size_bytes) == ("input", SIZE)


@pytest.mark.parametrize("happens", [overwrite, append, truncate])
def test_changed_while_it_is_hashed(
    path: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Path], None]
) -> None:
    """No digest of a mixture is invented."""
    file = noticed(path)
    while_hashing(monkeypatch, lambda: happens(path))
    assert fingerprint(file).missing == "superseded"
    assert fingerprint(file).digest is None


@pytest.mark.parametrize("happens", [rename_over, delete, folder_in_its_place])
def test_replaced_while_it_is_hashed(
    path: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Path], None]
) -> None:
    """The file itself is still whole, and its digest is that of what was noticed."""
    file, content = noticed(path), path.read_bytes()
    while_hashing(monkeypatch, lambda: happens(path))
    assert fingerprint(file).digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("happens", "missing"),
    [
        (overwrite, "superseded"),
        (append, "superseded"),
        (truncate, "superseded"),
        (rename_over, "superseded"),
        (link_to_another, "superseded"),
        (delete, "deleted"),
        (folder_in_its_place, "unreadable"),
        (pipe_in_its_place, "unreadable"),
    ],
)
def test_changed_before_it_is_looked_into(
    path: Path, tmp_path: Path, happens: Callable[[Path], None], missing: str
) -> None:
    """Each is told by its name, and by who keeps outputs in the same words as by who takes digests of inputs."""
    file = noticed(path)
    happens(path)
    artifact = fingerprint(file)
    assert (artifact.digest, artifact.missing) == (None, missing)
    assert keep(file, LocalArtifacts(tmp_path / "artifacts")).missing == missing
    assert list(LocalArtifacts(tmp_path / "artifacts").digests()) == []


@pytest.mark.parametrize("happens", [overwrite, append, truncate])
def test_changed_while_it_is_kept(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Path], None]
) -> None:
    """An output that is overwritten in the middle of the copy is noticed at the next block, and nothing of it is kept."""
    file = noticed(path)
    blocks = while_copying(monkeypatch, lambda: happens(path))
    assert keep(file, LocalArtifacts(tmp_path / "artifacts")).missing == "superseded"
    assert len(blocks) == 3
    assert list(LocalArtifacts(tmp_path / "artifacts").digests()) == []


def test_link_and_sparse_file(path: Path, tmp_path: Path) -> None:
    """A link is what it leads to; holes are zeros; what is too large to be read is told so."""
    link = tmp_path / "latest.pt"
    link.symlink_to(path)
    assert fingerprint(noticed(link)).digest == hashlib.sha256(path.read_bytes()).hexdigest()
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as file:
        file.truncate(3 * BLOCK_BYTES)
    assert fingerprint(noticed(sparse)).digest == hashlib.sha256(bytes(3 * BLOCK_BYTES)).hexdigest()
    os.truncate(sparse, 2**40)
    assert fingerprint(noticed(sparse)).missing == "too_large"


def test_read_once(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file under whatever name is hashed once; one that was just modified may change without a trace, and is not
    remembered."""
    blocks: list[int] = []
    read = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        blocks.append(offset)
        return read(descriptor, size, offset)

    monkeypatch.setattr(digests.os, "pread", counted)
    first = fingerprint(noticed(path))
    count = len(blocks)
    assert count == 7
    os.link(path, tmp_path / "hard")
    assert fingerprint(noticed(tmp_path / "hard")).digest == fingerprint(noticed(path)).digest == first.digest
    assert len(blocks) == count
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b"x")
    fingerprint(noticed(fresh))
    fingerprint(noticed(fresh))
    assert len(blocks) == count + 4


def test_an_old_journal_knows_no_inode(path: Path) -> None:
    """What was noticed by an older looptap is told by size and time alone."""
    assert fingerprint(noticed(path, inode=0)).digest is not None
    with pytest.raises(Unobtainable, match=r"^superseded$"):
        OpenFile(noticed(path, inode=1))
