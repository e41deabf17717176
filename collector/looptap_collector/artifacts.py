"""Files by their content: the SHA-256 of a file is its only address.

No name or path that came from a run is ever part of a path here, and no symbolic link inside the store is
followed. A file is copied under a temporary name, hashed on the way, made durable and then renamed, so a
digest that exists is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from looptap.events import Artifact, File

DEFAULT_LIMIT_BYTES = 5 * 2**30
_BLOCK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Unobtainable(Exception):
    """The content of a source file cannot be had. The message is the reason, in one word of
    :class:`Artifact`."""


class DamagedArtifact(Exception):
    """The stored content is no longer what its digest says."""


class Source(msgspec.Struct, frozen=True):
    """A file as it was when it was noticed."""

    path: str
    size_bytes: int
    modified_ns: int


class ArtifactStore(Protocol):
    """Safe to call from several threads and processes."""

    def put(self, source: Source) -> str:
        """Keep the file's content and return its digest. Raises :class:`Unobtainable` when the file is not,
        or does not stay, what ``source`` says; any other error is the store's own, and worth another try."""

    def open(self, digest: str) -> BinaryIO:
        """The content, checked against its digest. Raises KeyError or :class:`DamagedArtifact`."""

    def exists(self, digest: str) -> bool: ...


def keep(file: File, store: ArtifactStore, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Artifact:
    """Store what a run wrote or read. Without content, the artifact says why in ``missing``: ``deleted``,
    ``superseded`` (changed since, or while it was read), ``unreadable`` or ``too_large``."""
    digest = missing = None
    if file.size_bytes > limit_bytes:
        missing = "too_large"
    else:
        try:
            digest = store.put(Source(file.path, file.size_bytes, file.modified_ns))
        except Unobtainable as reason:
            missing = str(reason)
    return Artifact(
        name=file.name,
        time_ns=file.time_ns,
        size_bytes=file.size_bytes,
        digest=digest,
        missing=missing,
        path=file.path,
        role=file.role,
        kind=file.kind,
        step=file.step,
        description=file.description,
    )


class LocalArtifacts:
    """An :class:`ArtifactStore` in a folder: ``ab/cd/abcd…``, files 0600, folders 0700. Made when first
    needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, source: Source) -> str:
        with _opened(source) as file, self._inside("incoming", create=True) as incoming:
            name = secrets.token_hex(16)
            copy = os.open(name, _NEW_FILE, 0o600, dir_fd=incoming)
            try:
                try:
                    digest = _copy(file, copy)
                    _check_unchanged(file, source)
                    os.fsync(copy)
                finally:
                    os.close(copy)
                self._settle(name, incoming, digest)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=incoming)
                raise
        return digest

    def open(self, digest: str) -> BinaryIO:
        try:
            with self._inside(*_place(digest), create=False) as folder:
                descriptor = os.open(digest, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError as error:
            raise KeyError(f"no artifact {digest}") from error
        content = os.fdopen(descriptor, "rb")
        try:
            # hashlib.file_digest exists from Python 3.11 on.
            checksum = hashlib.sha256()
            while block := content.read(_BLOCK):
                checksum.update(block)
            if checksum.hexdigest() != digest:
                raise DamagedArtifact(f"artifact {digest} has other content than its digest says")
            content.seek(0)
        except BaseException:
            content.close()
            raise
        return content

    def exists(self, digest: str) -> bool:
        try:
            with self._inside(*_place(digest), create=False) as folder:
                return stat.S_ISREG(os.stat(digest, dir_fd=folder, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def _settle(self, name: str, incoming: int, digest: str) -> None:
        with self._inside(*_place(digest), create=True) as folder:
            # The same content may be there: replacing it by an equal file is harmless, and mends a damaged
            # one.
            os.rename(name, digest, src_dir_fd=incoming, dst_dir_fd=folder)
            os.fsync(folder)

    @contextlib.contextmanager
    def _inside(self, *names: str, create: bool) -> Iterator[int]:
        """A descriptor of a folder below the store's; a link in the place of a folder raises OSError."""
        if create:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self._folder, _FOLDER)
        try:
            for name in names:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=folder)
                outer, folder = folder, os.open(name, _FOLDER, dir_fd=folder)
                os.close(outer)
            yield folder
        finally:
            os.close(folder)


def _place(digest: str) -> tuple[str, str]:
    if not _DIGEST.match(digest):
        raise KeyError(f"{digest[:80]!r} is not a SHA-256 in hex")
    return digest[:2], digest[2:4]


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[int]:
    try:
        # Without waiting: the path may lead to a pipe by now.
        descriptor = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unobtainable("deleted") from error
    except (OSError, ValueError) as error:
        raise Unobtainable("unreadable") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unobtainable("unreadable")
        _check_unchanged(descriptor, source)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_unchanged(descriptor: int, source: Source) -> None:
    now = os.fstat(descriptor)
    if (now.st_size, now.st_mtime_ns) != (source.size_bytes, source.modified_ns):
        raise Unobtainable("superseded")


def _copy(source: int, target: int) -> str:
    checksum = hashlib.sha256()
    while True:
        try:
            block = os.read(source, _BLOCK)
        except OSError as error:
            raise Unobtainable("unreadable") from error
        if not block:
            return checksum.hexdigest()
        checksum.update(block)
        unwritten = memoryview(block)
        while unwritten:
            unwritten = unwritten[os.write(target, unwritten) :]
