"""A file of a run, read as it was when it was noticed or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterator

import msgspec

#: What is read, hashed and copied at once.
BLOCK = 1 << 20


class Unobtainable(Exception):
    """The content of a source file cannot be had. The message is the reason, in one word of
    :class:`looptap.events.Artifact`."""


class Source(msgspec.Struct, frozen=True):
    """A file as it was when it was noticed. ``inode`` is 0 when it is not known."""

    path: str
    size_bytes: int
    modified_ns: int
    inode: int = 0


def copy_unchanged(source: Source, target: int) -> str:
    """Copy the content into the open file ``target`` and return its digest. Raises :class:`Unobtainable` when the file is
    not, or does not stay, what ``source`` says."""
    with _opened(source) as file:
        return copy(file, target, lambda: _check_unchanged(file, source))


def check(source: Source) -> None:
    """Raises :class:`Unobtainable` when the file can be seen not to be what ``source`` says."""
    with _opened(source):
        pass


def copy(source: int, target: int, check: Callable[[], None] = lambda: None) -> str:
    """Copy one open file into another and return the digest of what was copied. ``check`` is called after each block, as the
    copy of a large file that is no longer what it was is of no use to anybody."""
    checksum = hashlib.sha256()
    while True:
        try:
            block = os.read(source, BLOCK)
        except OSError as error:
            raise Unobtainable("unreadable") from error
        check()
        if not block:
            return checksum.hexdigest()
        checksum.update(block)
        write_all(target, block)


def write_all(target: int, block: bytes) -> None:
    unwritten = memoryview(block)
    while unwritten:
        unwritten = unwritten[os.write(target, unwritten) :]


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
    is_same = (now.st_size, now.st_mtime_ns) == (source.size_bytes, source.modified_ns)
    if not is_same or source.inode not in (0, now.st_ino):
        raise Unobtainable("superseded")
