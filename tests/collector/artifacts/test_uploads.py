"""Uploads that are interrupted, repeated, wrong, or meant to do harm."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from collector.artifacts.contract import digest_of
from collector.artifacts.servers import Cloud
from looptap_collector.artifacts import ArtifactStore, LocalArtifacts, open_artifacts
from looptap_collector.artifacts.uploads import Busy, DigestMismatch, Progress, TooLarge, Uploads, WrongStart

CONTENT = os.urandom(3_000_000)
DIGEST = digest_of(CONTENT)
TOTAL = len(CONTENT)


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifacts:
    return LocalArtifacts(tmp_path / "artifacts")


@pytest.fixture
def uploads(tmp_path: Path, store: LocalArtifacts) -> Uploads:
    return Uploads(tmp_path / "spool", store)


def spooled(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "spool").iterdir())


def content_of(store: ArtifactStore, digest: str) -> bytes:
    with store.open(digest) as kept:
        return kept.read()


def test_in_parts(uploads: Uploads, store: LocalArtifacts, tmp_path: Path) -> None:
    """A file arrives part by part; when the last one is there it is in the store, and the spool is empty."""
    assert uploads.received(DIGEST, "ada") == 0
    for start in range(0, TOTAL - 1_000_000, 1_000_000):
        part = CONTENT[start : start + 1_000_000]
        progress = uploads.append(DIGEST, "ada", start, TOTAL, [part[:1000], part[1000:]])
        assert progress == Progress(start + 1_000_000, complete=False)
        assert uploads.received(DIGEST, "ada") == start + 1_000_000
        assert not store.exists(DIGEST)
    assert uploads.append(DIGEST, "ada", 2_000_000, TOTAL, [CONTENT[2_000_000:]]) == Progress(TOTAL, complete=True)
    assert content_of(store, DIGEST) == CONTENT
    assert spooled(tmp_path) == []
    assert uploads.received(DIGEST, "ada") == 0


def test_an_empty_file(uploads: Uploads, store: LocalArtifacts, tmp_path: Path) -> None:
    """A file of no bytes is complete at once."""
    assert uploads.append(digest_of(b""), "ada", 0, 0, []) == Progress(0, complete=True)
    assert content_of(store, digest_of(b"")) == b""
    assert spooled(tmp_path) == []


def test_into_a_bucket(moto: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store may be a bucket; nothing of the file stays on the disk of the collector."""
    moto.enter(monkeypatch)
    store = open_artifacts(f"s3://{moto.new_bucket()}")
    assert Uploads(tmp_path / "spool", store).append(DIGEST, "ada", 0, TOTAL, [CONTENT]).complete
    assert content_of(store, DIGEST) == CONTENT
    assert spooled(tmp_path) == []


def test_a_wrong_start_is_told_the_right_one(uploads: Uploads) -> None:
    """A part that was sent twice, or that leaves a gap as a sparse file would, is refused with the place to go on."""
    uploads.append(DIGEST, "ada", 0, TOTAL, [CONTENT[:1000]])
    for start in (0, 999, 1001, TOTAL, TOTAL + 1, -1):
        with pytest.raises(WrongStart) as told:
            uploads.append(DIGEST, "ada", start, TOTAL, [b"x"])
        assert told.value.received == 1000
    assert uploads.append(DIGEST, "ada", 1000, TOTAL, [CONTENT[1000:]]).complete


def test_other_content_is_refused(uploads: Uploads, store: LocalArtifacts, tmp_path: Path) -> None:
    """Content with another digest, a truncated file and one that is longer than it says leave nothing, neither in the store
    nor in the spool."""
    for total, blocks in (
        (TOTAL, [CONTENT[:-1], b"?"]),
        (TOTAL - 1, [CONTENT[:-1]]),
        (TOTAL, [CONTENT, b"more"]),
        (0, []),
    ):
        with pytest.raises(DigestMismatch, match="forgotten"):
            uploads.append(DIGEST, "ada", 0, total, blocks)
        assert spooled(tmp_path) == []
    uploads.append(DIGEST, "ada", 0, TOTAL, [CONTENT[:1000]])
    with pytest.raises(DigestMismatch, match="forgotten"):
        uploads.append(DIGEST, "ada", 10, 10, [])
    assert not store.exists(DIGEST)
    assert uploads.append(DIGEST, "ada", 0, TOTAL, [CONTENT]).complete


def test_too_large(tmp_path: Path, store: LocalArtifacts) -> None:
    """A file over the limit is refused before a byte of it is written."""
    uploads = Uploads(tmp_path / "spool", store, limit_bytes=10)
    with pytest.raises(TooLarge):
        uploads.append(DIGEST, "ada", 0, 11, [b"x"])
    assert not (tmp_path / "spool").exists()


def test_a_connection_that_breaks(uploads: Uploads) -> None:
    """What came before the break is kept, and the upload goes on from there."""

    def broken() -> Iterator[bytes]:
        yield CONTENT[:1000]
        yield CONTENT[1000:3000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        uploads.append(DIGEST, "ada", 0, TOTAL, broken())
    assert uploads.received(DIGEST, "ada") == 3000
    assert uploads.append(DIGEST, "ada", 3000, TOTAL, [CONTENT[3000:]]).complete


def test_a_collector_that_is_killed(tmp_path: Path, store: LocalArtifacts) -> None:
    """After kill -9 in the middle of a part, a new collector takes the upload up where it was."""
    (tmp_path / "content").write_bytes(CONTENT)
    program = f"""
        import os, signal
        from pathlib import Path
        from looptap_collector.artifacts import LocalArtifacts
        from looptap_collector.artifacts.uploads import Uploads

        content = Path("content").read_bytes()

        def blocks():
            yield content[1000:5000]
            os.kill(os.getpid(), signal.SIGKILL)

        uploads = Uploads(Path("spool"), LocalArtifacts(Path("artifacts")))
        uploads.append("{DIGEST}", "ada", 0, {TOTAL}, [content[:1000]])
        uploads.append("{DIGEST}", "ada", 1000, {TOTAL}, blocks())
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, check=False)
    assert killed.returncode == -9
    uploads = Uploads(tmp_path / "spool", store)
    assert uploads.received(DIGEST, "ada") == 5000
    assert uploads.append(DIGEST, "ada", 5000, TOTAL, [CONTENT[5000:]]).complete
    assert content_of(store, DIGEST) == CONTENT


def test_a_store_that_is_away(tmp_path: Path, store: LocalArtifacts) -> None:
    """When the store fails at the end nothing has to be sent again: the upload is finished by a part of no bytes."""
    (tmp_path / "blocked").touch()
    away = Uploads(tmp_path / "spool", LocalArtifacts(tmp_path / "blocked" / "artifacts"))
    with pytest.raises(OSError):
        away.append(DIGEST, "ada", 0, TOTAL, [CONTENT])
    uploads = Uploads(tmp_path / "spool", store)
    assert uploads.received(DIGEST, "ada") == TOTAL
    assert uploads.append(DIGEST, "ada", TOTAL, TOTAL, []) == Progress(TOTAL, complete=True)
    assert content_of(store, DIGEST) == CONTENT


def test_two_owners_do_not_meet(uploads: Uploads, store: LocalArtifacts) -> None:
    """Whoever starts an upload of somebody else's digest neither sees nor spoils the other's."""
    uploads.append(DIGEST, "ada", 0, TOTAL, [CONTENT[:1000]])
    assert uploads.received(DIGEST, "eve") == 0
    with pytest.raises(DigestMismatch):
        uploads.append(DIGEST, "eve", 0, 1000, [bytes(1000)])
    uploads.append(DIGEST, "eve", 0, TOTAL, [bytes(2000)])
    assert uploads.received(DIGEST, "ada") == 1000
    assert uploads.append(DIGEST, "ada", 1000, TOTAL, [CONTENT[1000:]]).complete
    assert content_of(store, DIGEST) == CONTENT


def test_two_requests_for_one_upload(uploads: Uploads) -> None:
    """While one request writes, another for the same upload is told to come later, also to another collector."""
    entered, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield CONTENT[:1000]
        entered.set()
        assert go_on.wait(30)
        yield CONTENT[1000:]

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(uploads.append, DIGEST, "ada", 0, TOTAL, slow())
        try:
            assert entered.wait(30)
            for other in (uploads, Uploads(uploads._path, uploads._store)):
                with pytest.raises(Busy):
                    other.append(DIGEST, "ada", 1000, TOTAL, [b"x"])
        finally:
            go_on.set()
        assert first.result().complete


def test_many_at_once(uploads: Uploads, store: LocalArtifacts, tmp_path: Path) -> None:
    """Uploads of different files and owners go on side by side, in worker threads."""
    contents = [os.urandom(200_000) for _ in range(8)]

    def upload(number: int) -> None:
        content, owner = contents[number % 8], f"owner{number // 8}"
        for start in range(0, len(content), 50_000):
            uploads.append(digest_of(content), owner, start, len(content), [content[start : start + 50_000]])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, range(16)))
    assert {item.digest for item in store.digests()} == {digest_of(content) for content in contents}
    assert spooled(tmp_path) == []


def test_the_spool_is_bounded(tmp_path: Path, store: LocalArtifacts) -> None:
    """All uploads together take no more than the spool may have; the next one is told to come later."""
    uploads = Uploads(tmp_path / "spool", store, spool_bytes=TOTAL + 500)
    uploads.append(DIGEST, "ada", 0, TOTAL, [CONTENT[:1000]])
    with pytest.raises(Busy, match="no room"):
        uploads.append(DIGEST, "eve", 0, TOTAL, [CONTENT])
    assert uploads.append(DIGEST, "ada", 1000, TOTAL, [CONTENT[1000:]]).complete
    assert uploads.append(DIGEST, "eve", 0, TOTAL, [CONTENT]).complete


def test_one_owner_leaves_room_for_others(tmp_path: Path, store: LocalArtifacts) -> None:
    """Unfinished uploads of one owner take three quarters of the spool together; the rest is for others."""
    uploads = Uploads(tmp_path / "spool", store, spool_bytes=4 * TOTAL)
    for number in range(3):
        uploads.append(digest_of(bytes([number])), "eve", 0, TOTAL, [CONTENT[:-1]])
    with pytest.raises(Busy, match="no room"):
        uploads.append(digest_of(b"one more"), "eve", 0, TOTAL, [CONTENT[:-1]])
    assert uploads.append(DIGEST, "ada", 0, TOTAL, [CONTENT]).complete


def test_room_is_promised_to_what_is_under_way(tmp_path: Path, store: LocalArtifacts) -> None:
    """An upload that was let in is not crowded out by one that comes while it is written."""
    uploads = Uploads(tmp_path / "spool", store, spool_bytes=TOTAL + 500)

    def blocks() -> Iterator[bytes]:
        yield CONTENT[:1000]
        with pytest.raises(Busy, match="no room"):
            uploads.append(digest_of(b"x" * 1000), "eve", 0, 1000, [b"x" * 1000])
        yield CONTENT[1000:]

    assert uploads.append(DIGEST, "ada", 0, TOTAL, blocks()).complete


def test_forgotten_uploads_are_swept(uploads: Uploads, tmp_path: Path) -> None:
    """An upload that nobody went on with for a day is removed when another one comes; a younger one stays."""
    uploads.append(DIGEST, "ada", 0, TOTAL, [b"old"])
    (old,) = spooled(tmp_path)
    os.utime(old, (1, 1))
    uploads.append(digest_of(b"young"), "ada", 0, 5, [b"yo"])
    assert uploads.sweep() == 1
    assert uploads.received(DIGEST, "ada") == 0
    assert uploads.received(digest_of(b"young"), "ada") == 2
    (young,) = spooled(tmp_path)
    os.utime(young, (1, 1))
    Uploads(tmp_path / "spool", LocalArtifacts(tmp_path / "artifacts")).append(DIGEST, "ada", 0, TOTAL, [b"new"])
    assert not young.exists()


@pytest.mark.parametrize("owner", ["../../../etc/x", "/etc/x", "a\0b", "a/b", "", "\udc80", "x" * 10_000])
@pytest.mark.parametrize("digest", ["../../etc/passwd", "", "A" * 64, "0" * 63 + "/", "0" * 64 + "\n"])
def test_names_are_never_paths(uploads: Uploads, tmp_path: Path, digest: str, owner: str) -> None:
    """No digest but one of 64 digits is taken, and an owner may have any name."""
    with pytest.raises(KeyError):
        uploads.append(digest, owner, 0, 1, [b"x"])
    with pytest.raises(KeyError):
        uploads.received(digest, owner)
    uploads.append(DIGEST, owner, 0, TOTAL, [b"x"])
    (file,) = spooled(tmp_path)
    assert file.name.endswith(f"-{DIGEST}")
    assert len(file.name) == 16 + 1 + 64


def test_only_the_owner_of_the_process_may_read(uploads: Uploads, tmp_path: Path) -> None:
    """Files are 0600 in a folder of 0700, also where the folder was there with more."""
    (tmp_path / "spool").mkdir(mode=0o755)
    uploads.append(DIGEST, "ada", 0, TOTAL, [b"x"])
    (file,) = spooled(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_planted_links_are_not_followed(uploads: Uploads, tmp_path: Path) -> None:
    """A symbolic link, a hard link or a pipe in place of a spool file is an error, and nothing is written through it."""
    uploads.append(DIGEST, "ada", 0, TOTAL, [b"x"])
    (file,) = spooled(tmp_path)
    outside = tmp_path / "outside"
    for plant in (file.symlink_to, file.hardlink_to, lambda _: os.mkfifo(file)):
        outside.write_bytes(b"")
        file.unlink()
        plant(outside)
        with pytest.raises(OSError):
            uploads.append(DIGEST, "ada", 0, TOTAL, [CONTENT])
        assert outside.read_bytes() == b""


def test_a_planted_folder_is_not_followed(tmp_path: Path, store: LocalArtifacts) -> None:
    """A link in place of the spool folder is an error."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "spool").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError):
        Uploads(tmp_path / "spool", store).append(DIGEST, "ada", 0, TOTAL, [CONTENT])
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_finished_upload_is_not_written_to(uploads: Uploads, store: LocalArtifacts, tmp_path: Path) -> None:
    """A request that had the spool file open while another one finished the upload cannot touch the artifact it became."""
    uploads.append(DIGEST, "ada", 0, TOTAL, [CONTENT[:1000]])
    (file,) = spooled(tmp_path)
    real = os.open

    def open_and_lose(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        opened = real(path, flags, mode, dir_fd=dir_fd)
        if path == file.name:
            monkey.undo()
            assert uploads.append(DIGEST, "ada", 1000, TOTAL, [CONTENT[1000:]]).complete
        return opened

    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr("looptap_collector.artifacts.uploads.os.open", open_and_lose)
        with pytest.raises(Busy, match="just finished"):
            uploads.append(DIGEST, "ada", TOTAL, TOTAL + 5, [b"wrong"])
    assert content_of(store, DIGEST) == CONTENT
