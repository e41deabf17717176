"""Artifacts in a folder of this machine.

No symbolic link inside the store is followed. A file is copied under a temporary name, hashed on the way, made durable and
then renamed, so a digest that exists is complete.
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
from typing import BinaryIO

from looptap_collector.artifacts.sources import BLOCK, Source, check, copy, copy_unchanged
from looptap_collector.artifacts.store import DamagedArtifact, Stored, check_range, place

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER_NAME = re.compile(r"[0-9a-f]{2}\Z")


class LocalArtifacts:
    """An :class:`ArtifactStore` in a folder: ``ab/cd/abcd…``, files 0600, folders 0700. Made when first
    needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, source: Source) -> str:
        check(source)  # a file that is gone leaves no empty store behind
        with self._incoming() as (incoming, name, file):
            digest = copy_unchanged(source, file)
            os.fsync(file)
            self._settle(name, incoming, digest)
        return digest

    def add(self, path: Path, digest: str) -> None:
        folder = place(digest)
        given = os.open(path, _FILE)
        try:
            if not stat.S_ISREG(os.fstat(given).st_mode):
                raise DamagedArtifact(f"{path} is no regular file")
            os.fsync(given)
            with self._inside(*folder, create=True) as target, contextlib.suppress(OSError):
                os.fchmod(given, 0o600)
                os.utime(given)
                os.rename(path, digest, dst_dir_fd=target)
                os.fsync(target)
                return
            # On another file system.
            with self._incoming() as (incoming, name, file):
                if copy(given, file) != digest:
                    raise DamagedArtifact(f"the file to keep as {digest} has other content")
                os.fsync(file)
                self._settle(name, incoming, digest)
        finally:
            os.close(given)

    def open(self, digest: str) -> BinaryIO:
        content = self._opened(digest)
        try:
            # hashlib.file_digest exists from Python 3.11 on.
            checksum = hashlib.sha256()
            while block := content.read(BLOCK):
                checksum.update(block)
            if checksum.hexdigest() != digest:
                raise DamagedArtifact(f"artifact {digest} has other content than its digest says")
            content.seek(0)
        except BaseException:
            content.close()
            raise
        return content

    def read(self, digest: str, start: int, end: int) -> Iterator[bytes]:
        content = self._opened(digest)
        try:
            check_range(digest, end, os.fstat(content.fileno()).st_size)
        except DamagedArtifact:
            content.close()
            raise
        return _blocks(content, digest, start, end)

    def size(self, digest: str) -> int:
        return self.stored(digest).size_bytes

    def stored(self, digest: str) -> Stored:
        with self._opened(digest) as content:
            found = os.fstat(content.fileno())
        return Stored(digest, found.st_size, found.st_mtime_ns)

    def exists(self, digest: str) -> bool:
        try:
            with self._inside(*place(digest), create=False) as folder:
                return stat.S_ISREG(os.stat(digest, dir_fd=folder, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def delete(self, digest: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._inside(*place(digest), create=False) as folder:
            os.unlink(digest, dir_fd=folder)

    def digests(self) -> Iterator[Stored]:
        for outer in self._names():
            for inner in self._names(outer) if _FOLDER_NAME.match(outer) else ():
                for name in self._names(outer, inner) if _FOLDER_NAME.match(inner) else ():
                    with contextlib.suppress(FileNotFoundError, KeyError):
                        if place(name) != (outer, inner):
                            continue
                        with self._inside(outer, inner, create=False) as folder:
                            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                        if stat.S_ISREG(found.st_mode):
                            yield Stored(name, found.st_size, found.st_mtime_ns)

    def _names(self, *folders: str) -> list[str]:
        """What a folder of the store holds; nothing where there is no such folder, or a link in its place."""
        try:
            with self._inside(*folders, create=False) as folder:
                return sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _opened(self, digest: str) -> BinaryIO:
        try:
            with self._inside(*place(digest), create=False) as folder:
                descriptor = os.open(digest, _FILE, dir_fd=folder)
        except FileNotFoundError as error:
            raise KeyError(f"no artifact {digest}") from error
        content = os.fdopen(descriptor, "rb")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            content.close()
            raise DamagedArtifact(f"artifact {digest} is no regular file")
        return content

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[tuple[int, str, int]]:
        """The folder of what is on its way, a new name in it, and the new file, open for writing. What was not settled is
        removed."""
        with self._inside("incoming", create=True) as incoming:
            name = secrets.token_hex(16)
            file = os.open(name, _NEW_FILE, 0o600, dir_fd=incoming)
            try:
                yield incoming, name, file
            finally:
                os.close(file)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=incoming)

    def _settle(self, name: str, incoming: int, digest: str) -> None:
        with self._inside(*place(digest), create=True) as folder:
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


def _blocks(content: BinaryIO, digest: str, start: int, end: int) -> Iterator[bytes]:
    with content:
        content.seek(start)
        while start < end:
            block = content.read(min(BLOCK, end - start))
            if not block:
                raise DamagedArtifact(f"artifact {digest} ends at byte {start}")
            start += len(block)
            yield block
