"""The contract on a folder, and what only a folder can go through: links, other owners' paths, files that change."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from collector.artifacts.contract import ArtifactsContract, Reopen, Spoil, digest_of
from looptap.events import Artifact, File
from looptap_collector.artifacts import DamagedArtifact, LocalArtifacts, keep, open_artifacts


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifacts:
    return LocalArtifacts(tmp_path / "artifacts")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    path.write_bytes(os.urandom(3_000_000))
    return path


def noticed(path: Path, name: str = "model.pt") -> File:
    """The record that the agent makes when a file was written."""
    found = path.stat()
    return File(
        path=str(path),
        name=name,
        time_ns=7,
        size_bytes=found.st_size,
        modified_ns=found.st_mtime_ns,
        role="output",
        kind="model",
        step=3,
        description="best",
    )


def content_files(store_folder: Path) -> list[Path]:
    return sorted(path for path in store_folder.rglob("*") if path.is_file())


class TestLocal(ArtifactsContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return lambda: open_artifacts(tmp_path / "store")

    @pytest.fixture
    def spoil(self, tmp_path: Path) -> Spoil:
        def spoil(digest: str, content: bytes) -> None:
            (tmp_path / "store" / digest[:2] / digest[2:4] / digest).write_bytes(content)

        return spoil


def test_content_is_kept_under_its_digest(store: LocalArtifacts, model: Path, tmp_path: Path) -> None:
    """The artifact carries what the file's record said, and the content can be read back."""
    artifact = keep(noticed(model), store)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert artifact == Artifact(
        name="model.pt",
        time_ns=7,
        size_bytes=3_000_000,
        digest=digest,
        path=str(model),
        role="output",
        kind="model",
        step=3,
        description="best",
    )
    assert store.exists(digest)
    with store.open(digest) as content:
        assert content.read() == model.read_bytes()
    (kept,) = content_files(tmp_path / "artifacts")
    assert kept.relative_to(tmp_path / "artifacts") == Path(digest[:2], digest[2:4], digest)


def test_only_the_owner_may_read(store: LocalArtifacts, model: Path, tmp_path: Path) -> None:
    """Files are 0600 and folders 0700."""
    keep(noticed(model), store)
    folder = tmp_path / "artifacts"
    assert {path.stat().st_mode & 0o777 for path in content_files(folder)} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")] if path.is_dir()} == {0o700}


def test_the_same_content_is_kept_once(store: LocalArtifacts, model: Path, tmp_path: Path) -> None:
    """Under several names, at once from several threads."""
    copies = []
    for number in range(8):
        copies.append(tmp_path / f"copy{number}")
        copies[-1].write_bytes(model.read_bytes())
    with ThreadPoolExecutor(4) as pool:
        digests = {artifact.digest for artifact in pool.map(lambda copy: keep(noticed(copy), store), copies)}
    assert len(digests) == 1
    assert len(content_files(tmp_path / "artifacts")) == 1


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "C:\\x", "%2e%2e%2f", "~root", "a\nb", "‮", "file:///etc"]
)
def test_a_name_is_never_a_path(store: LocalArtifacts, model: Path, tmp_path: Path, name: str) -> None:
    """Whatever a run calls its file, the store's only path is made of the digest."""
    artifact = keep(noticed(model, name), store)
    assert artifact.name == name
    assert [path.name for path in content_files(tmp_path / "artifacts")] == [artifact.digest]


def test_deleted_file(store: LocalArtifacts, model: Path) -> None:
    """A file that is gone is told as deleted."""
    file = noticed(model)
    model.unlink()
    assert (keep(file, store).missing, keep(file, store).digest) == ("deleted", None)


def test_overwritten_file(store: LocalArtifacts, model: Path, tmp_path: Path) -> None:
    """A checkpoint that was overwritten before it was read is not passed off as the one that was written."""
    file = noticed(model)
    model.write_bytes(b"the next checkpoint")
    assert keep(file, store).missing == "superseded"
    assert not (tmp_path / "artifacts").exists()


def test_file_that_changes_while_it_is_read(store: LocalArtifacts, tmp_path: Path) -> None:
    """A file that is being written during the copy is superseded, and no half copy stays."""
    path = tmp_path / "growing"
    path.write_bytes(bytes(64_000_000))
    file = noticed(path)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab") as end:
            while not stop.is_set():
                end.write(b"x")
                end.flush()

    # The writer runs before the copy is over: the first look at the file may already see it change.
    writer = threading.Thread(target=grow)
    writer.start()
    try:
        artifact = keep(file, store)
    finally:
        stop.set()
        writer.join()
    assert (artifact.missing, artifact.digest) == ("superseded", None)
    assert content_files(tmp_path / "artifacts") == []


def test_unreadable_files(store: LocalArtifacts, tmp_path: Path) -> None:
    """A folder, a pipe that nobody writes to and an impossible path are unreadable, at once."""
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path), str(tmp_path / "pipe"), "a\0b"):
        assert keep(File(path, "x", 1, 0, 0), store).missing == "unreadable"


def test_too_large_file(store: LocalArtifacts, tmp_path: Path) -> None:
    """A file over the limit is not copied; it may be sparse and claim any size."""
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(6 * 2**30)
    assert keep(noticed(sparse), store).missing == "too_large"
    assert keep(noticed(sparse), store).size_bytes == 6 * 2**30


def test_empty_file(store: LocalArtifacts, tmp_path: Path) -> None:
    """An empty file is content like any other."""
    empty = tmp_path / "empty"
    empty.touch()
    assert keep(noticed(empty), store).digest == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_planted_links_are_not_followed(store: LocalArtifacts, model: Path, tmp_path: Path, level: int) -> None:
    """A link in place of a folder of the store makes keeping fail (worth another try) and writes nothing
    outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    link = (tmp_path / "artifacts").joinpath(*[digest[:2], digest[2:4]][:level])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(OSError):
        keep(noticed(model), store)
    assert list(outside.rglob("*")) == []


def test_a_link_in_place_of_content_is_not_followed(store: LocalArtifacts, model: Path, tmp_path: Path) -> None:
    """Where content should be, a link is neither read nor counted as content, and keeping the file replaces
    it."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    place = tmp_path / "artifacts" / digest[:2] / digest[2:4] / digest
    place.parent.mkdir(parents=True)
    place.symlink_to(secret)
    assert not store.exists(digest)
    with pytest.raises(OSError):
        store.open(digest)
    keep(noticed(model), store)
    assert store.exists(digest)
    assert secret.read_bytes() == b"secret"


def test_store_that_cannot_be_written_is_worth_another_try(model: Path, tmp_path: Path) -> None:
    """An error of the store is raised as it is: the file is not to blame and is not told as missing."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        keep(noticed(model), LocalArtifacts(tmp_path / "file" / "artifacts"))


def test_links_are_not_read_in_parts_nor_listed(store: LocalArtifacts, tmp_path: Path) -> None:
    """A link where content or a folder should be is no content, whichever way one asks."""
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / digest_of(b"secret")
    secret.write_bytes(b"secret")
    digest = secret.name
    folder = tmp_path / "artifacts" / digest[:2]
    folder.mkdir(parents=True)
    (folder / digest[2:4]).symlink_to(outside)
    for ask in (store.size, store.open, lambda digest: store.read(digest, 0, 6)):
        with pytest.raises(OSError):
            ask(digest)
    assert list(store.digests()) == []
    (folder / digest[2:4]).unlink()
    (folder / digest[2:4]).mkdir()
    (folder / digest[2:4] / digest).symlink_to(secret)
    for ask in (store.size, store.open, lambda digest: store.read(digest, 0, 6)):
        with pytest.raises(OSError):
            ask(digest)
    assert list(store.digests()) == []
    store.delete(digest)
    assert secret.read_bytes() == b"secret"


def test_added_files_are_taken_from_the_same_disk(store: LocalArtifacts, tmp_path: Path) -> None:
    """A file to add is moved where it can be, whatever its permissions were; a link is refused."""
    given = tmp_path / "given"
    given.write_bytes(b"content")
    given.chmod(0o644)
    (tmp_path / "link").symlink_to(given)
    with pytest.raises(OSError):
        store.add(tmp_path / "link", digest_of(b"content"))
    store.add(given, digest_of(b"content"))
    assert not given.exists()
    (kept,) = content_files(tmp_path / "artifacts")
    assert kept.stat().st_mode & 0o777 == 0o600


def test_added_files_from_another_disk_are_checked(store: LocalArtifacts, tmp_path: Path) -> None:
    """A file that has to be copied is hashed on the way."""
    elsewhere = Path("/dev/shm") / f"looptap-{os.getpid()}"
    if not elsewhere.parent.is_dir() or elsewhere.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at /dev/shm")
    elsewhere.write_bytes(b"content")
    try:
        with pytest.raises(DamagedArtifact):
            store.add(elsewhere, digest_of(b"other"))
        store.add(elsewhere, digest_of(b"content"))
    finally:
        elsewhere.unlink()
    assert [item.digest for item in store.digests()] == [digest_of(b"content")]
    assert list((tmp_path / "artifacts" / "incoming").iterdir()) == []
