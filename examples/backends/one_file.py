"""A store in one file: every change is a frame behind the one before, and to open it is to read all frames into memory.

The file begins with its *end*: where the last frame that counts ends. A change is written behind it and brought to the disk;
then the end is moved, which is the commit, and brought to the disk; then there is an answer. What lies behind the end was
left by a writer that died, counts for nothing and is overwritten. Several processes take turns by a lock on the file, and each
first reads what the others added.

::

    store = OneFile("runs.looptap")     # or, once it is registered: looptap server --store onefile:///data/runs.looptap
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from looptap_collector import exact
from looptap_collector.backend import Unavailable
from looptap_collector.backends.memory import Change, MemoryBackend

MAGIC = b"looptap1"
#: The magic number and the end, in bytes from the beginning of the file.
HEAD = struct.Struct("<8sQ")
#: In front of each change: how many bytes it takes, and their CRC-32.
FRAME = struct.Struct("<QI")


class OneFile(MemoryBackend):
    """Whoever has it locked is waited for. Not to be used across a fork: open another one in the child.

    Raises :class:`Unavailable` when the file cannot be opened, read or written, is something else, or is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.place = str(path)
        self._read_to = HEAD.size
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from error
        try:
            with self.held():
                pass
        except BaseException:
            self.close()
            raise

    @contextmanager
    def held(self, *, to_change: bool = False) -> Iterator[None]:
        # Threads share the lock of the file, so they have one of their own.
        with super().held():
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX if to_change else fcntl.LOCK_SH)
                self._read_on()
                yield
            except OSError as error:
                raise Unavailable(f"{self.place}: {error.strerror or error}") from error
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def keep(self, change: Change) -> None:
        content = exact.encode(change)
        if self._read_to == HEAD.size:  # the first one
            self._put(HEAD.pack(MAGIC, HEAD.size), 0)
            self._sync_name()
        self._put(FRAME.pack(len(content), zlib.crc32(content)) + content, self._read_to)
        try:
            self._put(HEAD.pack(MAGIC, self._read_to + FRAME.size + len(content)), 0)
        except OSError:
            # Nothing of a call that raises may count, not even for those who still find it in the page cache.
            os.pwrite(self._file, HEAD.pack(MAGIC, self._read_to), 0)
            raise

    def close(self) -> None:
        os.close(self._file)

    def _read_on(self) -> None:
        """Into memory comes only what is in the file: what this process itself wrote is read back like that of others."""
        if not os.fstat(self._file).st_size:
            return
        magic, end = HEAD.unpack(self._get(HEAD.size, 0))
        if magic != MAGIC:
            raise OSError("this is not a store in one file")
        while self._read_to < end:
            size, checksum = FRAME.unpack(self._get(FRAME.size, self._read_to))
            content = self._get(size, self._read_to + FRAME.size)
            if zlib.crc32(content) != checksum:
                raise OSError(f"it is damaged at byte {self._read_to}; nothing behind that can be read")
            self.replay(exact.decode(content, Change))
            self._read_to += FRAME.size + size

    def _get(self, size: int, start: int) -> bytes:
        if start + size > os.fstat(self._file).st_size:
            raise OSError(f"it is damaged: it ends before byte {start + size}")
        return os.pread(self._file, size, start)

    def _put(self, content: bytes, start: int) -> None:
        if os.pwrite(self._file, content, start) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._file)

    def _sync_name(self) -> None:
        folder = os.open(Path(self.place).resolve().parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def open_one_file(url: str) -> OneFile:
    """The entry point of ``onefile:///absolute/path``."""
    return OneFile(url.removeprefix("onefile://"))
