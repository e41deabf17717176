"""Uploads to a collector that can be interrupted and taken up again.

What has arrived of a file lies in a spool folder until all of it is there, has been checked against its digest and is in the
artifact store. The file itself is the only record of how far an upload has come, so whatever happens, its length tells
where to go on. A name in the folder is made of two digests, never of what a client said.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from looptap_collector.artifacts.keeping import DEFAULT_LIMIT_BYTES
from looptap_collector.artifacts.sources import BLOCK, write_all
from looptap_collector.artifacts.store import ArtifactStore, place

DEFAULT_SPOOL_BYTES = 20 * 2**30
#: An upload that nobody went on with for so long is forgotten.
STALE_SECONDS = 86_400
_SWEEP_SECONDS = 600
#: Of the spool, for the files of one owner.
_SHARE = 0.75
_MOST_HASHES = 1024
_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}\Z")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Progress(NamedTuple):
    """``received`` bytes so far; ``complete`` once the content is in the store, verified."""

    received: int
    complete: bool


class UploadError(Exception):
    """The message is one line for the client."""


class WrongStart(UploadError):
    """The part does not begin where the upload has come to: ``received`` is where to go on."""

    def __init__(self, received: int) -> None:
        super().__init__(f"{received} bytes have been received; go on from there")
        self.received = received


class DigestMismatch(UploadError):
    """All of it is there, and it is something else. The upload is forgotten."""


class TooLarge(UploadError):
    """More than a file may have."""


class Busy(UploadError):
    """Not now: the spool is full, or another request is writing to the same upload. Worth another try later."""


class _Hash(NamedTuple):
    """The checksum of a spool file as it was left: taken up again only by that very file."""

    checksum: Any  # hashlib has no name for its type
    file: tuple[int, int, int]


class Uploads:
    """The unfinished uploads of a collector, in ``folder`` (0700, made when needed). Safe to use from several threads, and from
    several processes on one machine. ``spool_bytes`` bounds what they take on disk together."""

    def __init__(
        self,
        folder: Path,
        store: ArtifactStore,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        spool_bytes: int = DEFAULT_SPOOL_BYTES,
    ) -> None:
        self._path = folder
        self._store = store
        self._limit = limit_bytes
        self._spool = spool_bytes
        self._lock = threading.Lock()
        self._promised: dict[str, int] = {}  # the full size of what is being written now
        self._hashes: dict[str, _Hash] = {}
        self._swept = 0.0

    def received(self, digest: str, owner: str) -> int:
        """Bytes of this owner's unfinished upload, 0 if there is none. Raises KeyError for text that is no digest."""
        name = _name(digest, owner)
        with self._folder() as folder:
            try:
                return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
            except FileNotFoundError:
                return 0

    def append(self, digest: str, owner: str, start: int, total: int, blocks: Iterable[bytes]) -> Progress:
        """Add the bytes from ``start`` on to an upload of ``total`` bytes, and finish it when all are there.

        When ``blocks`` raises, what came before stays and the error goes on. With no blocks and ``start == total`` an upload
        is finished that had arrived but could not be stored. Raises an :class:`UploadError`, KeyError for text that is no
        digest, or OSError when the disk or the store fails: then the upload stays as it is.
        """
        name = _name(digest, owner)
        if not 0 <= start <= total:
            raise WrongStart(self.received(digest, owner))
        if total > self._limit:
            raise TooLarge(f"a file may have {self._limit} bytes, this one has {total}")
        self._sweep_now_and_then()
        with self._folder() as folder, self._locked(name, folder) as file:
            size = os.fstat(file).st_size
            if size > total:
                self._forget(name, folder)
                raise DigestMismatch(f"{size} bytes had been received of a file of {total}; the upload was forgotten")
            if size != start:
                raise WrongStart(size)
            with self._room(name, total, folder):
                checksum = self._resumed(name, file)
                received = self._write(file, checksum, start, total, blocks, name, folder)
            if received < total:
                self._hashes[name] = _Hash(checksum, _state(file))
                return Progress(received, complete=False)
            if checksum.hexdigest() != digest:
                self._forget(name, folder)
                raise DigestMismatch(f"the {total} bytes received are not {digest}; the upload was forgotten")
            self._hashes[name] = _Hash(checksum, _state(file))
            self._store.add(self._path / name, digest)
            self._forget(name, folder)
        return Progress(total, complete=True)

    def sweep(self, older_than_s: float = STALE_SECONDS) -> int:
        """Forget uploads that nobody went on with, and return their number."""
        swept = 0
        with self._folder() as folder:
            for name, found in self._files(folder):
                if time.time() - found.st_mtime < older_than_s:
                    continue
                with contextlib.suppress(Busy), self._locked(name, folder) as file:
                    if time.time() - os.fstat(file).st_mtime >= older_than_s:
                        self._forget(name, folder)
                        swept += 1
        return swept

    def _write(
        self, file: int, checksum: Any, start: int, total: int, blocks: Iterable[bytes], name: str, folder: int
    ) -> int:
        received = start
        os.lseek(file, start, os.SEEK_SET)
        try:
            for block in blocks:
                if received + len(block) > total:
                    self._forget(name, folder)
                    raise DigestMismatch(f"more than the {total} bytes of the file were sent; the upload was forgotten")
                write_all(file, block)
                checksum.update(block)
                received += len(block)
        finally:
            os.fsync(file)  # what the client is told to have been received stays received
        return received

    def _resumed(self, name: str, file: int) -> Any:
        """The checksum of what the file holds: as it was left, or computed again after a restart."""
        known = self._hashes.pop(name, None)
        if known is not None and known.file == _state(file):
            return known.checksum
        if len(self._hashes) >= _MOST_HASHES:
            self._hashes.clear()
        checksum = hashlib.sha256()
        os.lseek(file, 0, os.SEEK_SET)
        while block := os.read(file, BLOCK):
            checksum.update(block)
        return checksum

    @contextlib.contextmanager
    def _room(self, name: str, total: int, folder: int) -> Iterator[None]:
        """A promise of room for the whole file while a part of it is written; Busy when there is none."""
        with self._lock:
            taken = {other: found.st_size for other, found in self._files(folder)} | self._promised
            taken.pop(name, None)
            own = sum(size for other, size in taken.items() if other.partition("-")[0] == name.partition("-")[0])
            # With several files one owner never takes all of it: what is left is for the files of others.
            if sum(taken.values()) + total > self._spool or (own and own + total > self._spool * _SHARE):
                raise Busy("the collector has no room for uploads at the moment; try again later")
            self._promised[name] = total
        try:
            yield
        finally:
            with self._lock:
                del self._promised[name]

    def _forget(self, name: str, folder: int) -> None:
        self._hashes.pop(name, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)

    def _sweep_now_and_then(self) -> None:
        if time.monotonic() - self._swept > _SWEEP_SECONDS or not self._swept:
            self._swept = time.monotonic()
            self.sweep()

    @contextlib.contextmanager
    def _folder(self) -> Iterator[int]:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self._path, _FOLDER)
        try:
            if os.fstat(folder).st_mode & 0o077:
                os.fchmod(folder, 0o700)  # fails, as it should, where the folder is somebody else's
            yield folder
        finally:
            os.close(folder)

    @staticmethod
    def _files(folder: int) -> Iterator[tuple[str, os.stat_result]]:
        for name in os.listdir(folder):
            if _NAME.match(name):
                with contextlib.suppress(FileNotFoundError):
                    yield name, os.stat(name, dir_fd=folder, follow_symlinks=False)

    @staticmethod
    @contextlib.contextmanager
    def _locked(name: str, folder: int) -> Iterator[int]:
        """The spool file, made when needed, for this thread alone. An empty one does not stay behind."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy("another request is writing to this upload; try again later") from error
            opened = os.fstat(file)
            if not stat.S_ISREG(opened.st_mode) or opened.st_nlink > 1:
                raise OSError(f"{name} in the spool is not a file of its own")
            if not _is_at(name, folder, opened):
                # By now it may be an artifact: not a byte may be written to it.
                raise Busy("another request has just finished this upload; try again later")
            try:
                yield file
            finally:
                if os.fstat(file).st_size == 0:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
        finally:
            os.close(file)


def _name(digest: str, owner: str) -> str:
    place(digest)
    return f"{hashlib.sha256(owner.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}-{digest}"


def _is_at(name: str, folder: int, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), file)
    except FileNotFoundError:
        return False


def _state(file: int) -> tuple[int, int, int]:
    found = os.fstat(file)
    return found.st_ino, found.st_size, found.st_mtime_ns
