"""What every artifact store must do, as a suite: subclass it beside a fixture ``reopen`` that opens an empty store on the real
server, and a fixture ``spoil`` that changes stored content behind the store's back."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import pytest

from looptap_collector.artifacts import ArtifactStore, DamagedArtifact, Source, Unobtainable

Reopen: TypeAlias = Callable[[], ArtifactStore]
Spoil: TypeAlias = Callable[[str, bytes], None]

#: More than one part of a multipart upload, and more than one block of a download.
LARGE = 20 * 2**20 + 17


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def source(path: Path) -> Source:
    found = path.stat()
    return Source(str(path), found.st_size, found.st_mtime_ns)


def put(store: ArtifactStore, folder: Path, content: bytes) -> str:
    path = folder / f"file-{digest_of(content)[:12]}"
    path.write_bytes(content)
    return store.put(source(path))


class ArtifactsContract:
    @pytest.fixture
    def store(self, reopen: Reopen) -> ArtifactStore:
        return reopen()

    @pytest.mark.parametrize("content", [b"", b"weights", os.urandom(LARGE)], ids=["empty", "small", "large"])
    def test_content_comes_back(self, reopen: Reopen, tmp_path: Path, content: bytes) -> None:
        """Empty, small or in many parts: another store at the same address has what was put."""
        digest = put(reopen(), tmp_path, content)
        assert digest == digest_of(content)
        other = reopen()
        assert other.exists(digest)
        assert other.size(digest) == len(content)
        with other.open(digest) as kept:
            assert kept.read() == content

    def test_ranges(self, store: ArtifactStore, tmp_path: Path) -> None:
        """Any part of the content can be read without the rest."""
        content = os.urandom(LARGE)
        digest = put(store, tmp_path, content)
        for start, end in [(0, 1), (0, LARGE), (5, 5), (LARGE - 1, LARGE), (1_000_000, 19_000_000)]:
            assert b"".join(store.read(digest, start, end)) == content[start:end]

    def test_a_range_of_nothing(self, store: ArtifactStore) -> None:
        """What is not there is told at once, before the first block is asked for."""
        with pytest.raises(KeyError, match="no artifact"):
            store.read("0" * 64, 0, 1)

    def test_unknown_digest(self, store: ArtifactStore, tmp_path: Path) -> None:
        """A digest that is not there is not there, in an empty store and in a used one."""
        for _ in range(2):
            assert not store.exists("0" * 64)
            store.delete("0" * 64)
            for ask in (store.open, store.size, store.stored):
                with pytest.raises(KeyError, match="no artifact"):
                    ask("0" * 64)
            put(store, tmp_path, b"other")

    @pytest.mark.parametrize("digest", ["", "../../../../etc/passwd", "ab", "A" * 64, "0" * 63 + "\n", "0" * 65, "*"])
    def test_what_is_no_digest_is_not_looked_for(self, store: ArtifactStore, tmp_path: Path, digest: str) -> None:
        """Text of any other form never becomes a path or a key."""
        (tmp_path / "file").touch()
        for ask in (
            store.open,
            store.exists,
            store.size,
            store.stored,
            store.delete,
            lambda digest: store.read(digest, 0, 1),
            lambda digest: store.add(tmp_path / "file", digest),
        ):
            with pytest.raises(KeyError, match="not a SHA-256"):
                ask(digest)
        assert list(store.digests()) == []

    def test_a_verified_file_is_added(self, store: ArtifactStore, tmp_path: Path) -> None:
        """A file that the caller has hashed is kept under the digest that it gives, also when it is there already."""
        for _ in range(2):
            path = tmp_path / "received"
            path.write_bytes(b"received")
            store.add(path, digest_of(b"received"))
        with store.open(digest_of(b"received")) as kept:
            assert kept.read() == b"received"

    def test_the_same_content_at_once(self, reopen: Reopen, tmp_path: Path) -> None:
        """Several collectors may put one file at the same time; afterwards it is there once, and whole."""
        content = os.urandom(LARGE)
        copies = [tmp_path / f"copy{number}" for number in range(4)]
        for copy in copies:
            copy.write_bytes(content)
        with ThreadPoolExecutor(4) as pool:
            digests = set(pool.map(lambda copy: reopen().put(source(copy)), copies))
        assert digests == {digest_of(content)}
        store = reopen()
        assert [(item.digest, item.size_bytes) for item in store.digests()] == [(digest_of(content), LARGE)]
        store.open(digest_of(content)).close()

    def test_a_file_that_changed_is_not_put(self, store: ArtifactStore, tmp_path: Path) -> None:
        """A file that is not what it was when it was noticed leaves nothing in the store."""
        path = tmp_path / "model.pt"
        path.write_bytes(b"first")
        noticed = source(path)
        path.write_bytes(b"the second")
        with pytest.raises(Unobtainable, match=r"^superseded$"):
            store.put(noticed)
        path.unlink()
        with pytest.raises(Unobtainable, match=r"^deleted$"):
            store.put(noticed)
        assert list(store.digests()) == []

    def test_listing(self, store: ArtifactStore, tmp_path: Path) -> None:
        """The list has every artifact with its size, and the time at which it was put."""
        assert list(store.digests()) == []
        contents = [bytes([number]) * number for number in range(12)]
        before = time.time_ns() - 2 * 10**9  # a server may tell full seconds only
        for content in contents:
            put(store, tmp_path, content)
        found = {item.digest: item for item in store.digests()}
        assert {digest: item.size_bytes for digest, item in found.items()} == {
            digest_of(content): len(content) for content in contents
        }
        assert all(before <= item.modified_ns <= time.time_ns() + 2 * 10**9 for item in found.values())
        one = digest_of(contents[7])
        assert store.stored(one)[:2] == (one, 7)
        assert abs(store.stored(one).modified_ns - found[one].modified_ns) < 10**9  # a list may tell full seconds only

    def test_deleted(self, store: ArtifactStore, tmp_path: Path) -> None:
        """What is deleted is gone, the rest stays, and it can be put again."""
        gone, stays = put(store, tmp_path, b"gone"), put(store, tmp_path, b"stays")
        store.delete(gone)
        assert not store.exists(gone)
        assert [item.digest for item in store.digests()] == [stays]
        put(store, tmp_path, b"gone")
        assert store.exists(gone)

    def test_damaged_content_is_not_handed_out(self, store: ArtifactStore, spoil: Spoil, tmp_path: Path) -> None:
        """Content that no longer has its digest is refused; putting the file again mends it."""
        digest = put(store, tmp_path, b"weights")
        spoil(digest, b"other content")
        with pytest.raises(DamagedArtifact, match=digest):
            store.open(digest)
        put(store, tmp_path, b"weights")
        with store.open(digest) as kept:
            assert kept.read() == b"weights"

    def test_truncated_content_is_not_passed_off(self, store: ArtifactStore, spoil: Spoil, tmp_path: Path) -> None:
        """A range that the content no longer has ends in an error, not in fewer bytes."""
        digest = put(store, tmp_path, b"weights")
        spoil(digest, b"w")
        with pytest.raises(DamagedArtifact, match="ends at byte 1"):
            b"".join(store.read(digest, 0, 7))
