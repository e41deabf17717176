"""The SHA-256 of a file as it was when it was noticed, or the reason why there is none.

A file that was written into, replaced, cut short or removed since then is told as such: the digest of something else would be an
invention. What is hashed holds up nobody: the interpreter lock is released for each block, and a file is read once however often
its digest is asked for.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator

from looptap.events import Artifact, File

BLOCK_BYTES = 2**20
#: Of an input, which is read from a local disk and goes nowhere.
INPUT_LIMIT_BYTES = 64 * 2**30
_MOST_KNOWN = 4_096
#: Clocks of file systems tick this rarely: what was modified just now may be modified again without a trace.
_SETTLED_NS = 100 * 10**6


class Unobtainable(Exception):
    """The content cannot be had; the message is the reason, in one word of :class:`looptap.events.Artifact`."""


class OpenFile:
    """A file that was noticed, open for reading. It may be renamed or removed meanwhile; written into, it is no longer what was
    noticed."""

    def __init__(self, file: File) -> None:
        """Raises :class:`Unobtainable`, for what is no regular file, too."""
        self.file = file
        self._descriptor = _open(file.path)
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise Unobtainable("unreadable")
            self.check_unchanged()
        except BaseException:
            self.close()
            raise

    def piece(self, start: int, size: int) -> bytes:
        """Bytes from ``start`` on, ``size`` at most. Raises :class:`Unobtainable`."""
        try:
            data = os.pread(self._descriptor, size, start)
        except OSError as error:
            raise Unobtainable("unreadable") from error
        self.check_unchanged()
        return data

    def pieces(self, start: int, size: int) -> Iterator[bytes]:
        """All of ``size`` bytes from ``start`` on. Raises :class:`Unobtainable`."""
        while size > 0:
            piece = self.piece(start, min(BLOCK_BYTES, size))
            if not piece:
                raise Unobtainable("superseded")
            yield piece
            start, size = start + len(piece), size - len(piece)

    def check_unchanged(self) -> None:
        """Raises :class:`Unobtainable` when the file was written into, or replaced before it was opened."""
        file, now = self.file, os.fstat(self._descriptor)
        is_same = (now.st_size, now.st_mtime_ns) == (file.size_bytes, file.modified_ns)
        if not is_same or file.inode not in (0, now.st_ino):
            raise Unobtainable("superseded")

    def digest(self) -> str:
        """Raises :class:`Unobtainable`."""
        now = os.fstat(self._descriptor)
        facts = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
        known = _KNOWN.get(facts)
        if known is not None:
            return known
        is_settled = time.time_ns() - now.st_mtime_ns > _SETTLED_NS
        checksum, at = hashlib.sha256(), 0
        while block := self.piece(at, BLOCK_BYTES):
            checksum.update(block)
            at += len(block)
        if at != self.file.size_bytes:
            raise Unobtainable("superseded")
        if is_settled:
            _KNOWN.put(facts, checksum.hexdigest())
        return checksum.hexdigest()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def fingerprint(file: File) -> Artifact:
    """Of an input: its digest, or why there is none. Its content goes nowhere."""
    if file.size_bytes > INPUT_LIMIT_BYTES:
        return file.as_artifact(missing="too_large")
    try:
        opened = OpenFile(file)
        try:
            return file.as_artifact(digest=opened.digest())
        finally:
            opened.close()
    except Unobtainable as reason:
        return file.as_artifact(missing=str(reason))


class _Known:
    """The last digests, by device, inode, size and time of modification."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digests: OrderedDict[tuple[int, ...], str] = OrderedDict()

    def get(self, facts: tuple[int, ...]) -> str | None:
        with self._lock:
            return self._digests.get(facts)

    def put(self, facts: tuple[int, ...], digest: str) -> None:
        with self._lock:
            self._digests[facts] = digest
            if len(self._digests) > _MOST_KNOWN:
                self._digests.popitem(last=False)


_KNOWN = _Known()


def _open(path: str) -> int:
    try:
        # Without waiting: the path may lead to a pipe by now.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unobtainable("deleted") from error
    except (OSError, ValueError) as error:
        raise Unobtainable("unreadable") from error
