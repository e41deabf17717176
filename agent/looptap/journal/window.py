"""The part of a segment that is written next, mapped into memory.

A write call costs 20 µs between two training steps that have emptied the caches (1 µs in a loop of its own); the same bytes put
into a mapped page cost less than one. They are as safe: a page that was written belongs to the kernel, which keeps it when the
process is killed. What is mapped is allocated on disk first, so a full disk shows here, as an error, and not later as a SIGBUS.
That promise is only relied on for the file systems that are known to keep it; on any other one a journal is written by write calls.
In a container that is a question to the file system below: an overlay hands files through to it (decision 0011).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
from pathlib import Path

_KEEP_ALLOCATED = {"ext2", "ext3", "ext4", "xfs", "tmpfs"}
# Of Linux, include/uapi/linux/fs.h. An overlay hands both questions through to the file below.
_GET_FLAGS, _FLAGS = 0x80086601, struct.Struct("<Q")  # FS_IOC_GETFLAGS
_EXTENT_FLAG = 0x80000  # FS_EXTENT_FL: ext4, and nobody else
_GET_XATTR, _XATTR = 0x801C581F, struct.Struct("<5I8x")  # FS_IOC_FSGETXATTR: flags, extent size, number of extents, …
_PREALLOCATED_FLAG = 0x2  # FS_XFLAG_PREALLOC, which together with a number of extents only xfs tells


class Window:
    """A mapped stretch of a file. ``start`` and ``end`` are offsets in the file; the file is ``end`` bytes long meanwhile."""

    __slots__ = ("_map", "end", "start")

    def __init__(self, fd: int, size: int, room: int) -> None:
        """``room`` bytes, or a little more, behind the ``size`` bytes that the file has. Raises OSError when the disk has no
        such room; then the file may have grown by zeros."""
        granularity = mmap.ALLOCATIONGRANULARITY
        self.start = size - size % granularity
        length = size - self.start + room
        length += -length % granularity
        os.posix_fallocate(fd, self.start, length)
        self._map = mmap.mmap(fd, length, offset=self.start)
        self.end = self.start + length

    def put(self, at: int, data: bytes) -> None:
        """Write at an offset of the file. The caller has seen that it fits."""
        at -= self.start
        self._map[at : at + len(data)] = data

    def bytes(self) -> memoryview[int]:
        """All of it. Who holds this may write through it also after :meth:`close`."""
        return memoryview(self._map)

    def close(self) -> None:
        # With its bytes in use somewhere it stays mapped until they are not: what is mapped remains a part of the file.
        with contextlib.suppress(BufferError):
            self._map.close()


def can_map(folder: Path) -> bool:
    """Whether the file system of this folder keeps what it has allocated (and is a local one)."""
    kind = _file_system(folder) if hasattr(os, "posix_fallocate") else None
    return kind in _KEEP_ALLOCATED or (kind == "overlay" and _lies_on_ext4_or_xfs(folder))


def _file_system(folder: Path) -> str | None:
    try:
        device = os.stat(folder).st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                fields, _, source = line.partition(" - ")
                if fields.split(" ", 3)[2] == wanted:
                    return source.split(" ", 1)[0]
    except (OSError, IndexError):
        pass
    return None


def _lies_on_ext4_or_xfs(folder: Path) -> bool:
    """Of an overlay. Asked of a file made for it: no system call names the file system below. Anything but a clear yes is a no: on
    btrfs, say, a store into an allocated page of a full disk really raises SIGBUS."""
    import fcntl

    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, mmap.PAGESIZE)
            with contextlib.suppress(OSError):
                (flags,) = _FLAGS.unpack(fcntl.ioctl(file, _GET_FLAGS, bytes(_FLAGS.size)))
                if flags & _EXTENT_FLAG:
                    return True
            flags, _, extents, _, _ = _XATTR.unpack(fcntl.ioctl(file, _GET_XATTR, bytes(_XATTR.size)))
            return bool(flags & _PREALLOCATED_FLAG and extents)
    except (OSError, struct.error):
        return False
