"""The segment that grows: its file, and where the file system allows for it the mapped window at its end."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from looptap.journal.frames import HEADER_BYTES, pack_header
from looptap.journal.window import Window

#: So much of a segment is mapped at once; a process that is killed leaves at most that many zeros at its end.
WINDOW_BYTES = 256 * 1024


class OpenSegment:
    """Used by one thread at a time."""

    def __init__(self, path: Path, may_map: bool, capacity: int) -> None:
        """A new file with a header. Raises OSError, FileExistsError among them: then there is none of ours.

        ``capacity``: about how many bytes it is going to hold.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.path = path
        #: Whether there may be a window; no longer once one could not be had.
        self.may_map = may_map
        #: Bytes that are written. The file may be longer, by zeros, as long as it is open.
        self.size = HEADER_BYTES
        self._capacity = capacity
        self._window: Window | None = None
        self._fd = os.open(path, flags, 0o600)
        try:
            if os.write(self._fd, pack_header()) != HEADER_BYTES:
                raise OSError("short write")
        except BaseException:
            self.close()
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise

    @property
    def is_empty(self) -> bool:
        """No frame is in it yet."""
        return self.size == HEADER_BYTES

    def write(self, frame: bytes) -> None:
        """One frame. Raises OSError unless all of it is in the file."""
        window = self.window(len(frame))
        if window is not None:
            window.put(self.size, frame)
        elif os.write(self._fd, frame) != len(frame):
            raise OSError("short write")
        self.size += len(frame)

    def window(self, room: int) -> Window | None:
        """A window with so much room behind what is written; None where there is none to be had."""
        window = self._window
        if window is not None and self.size + room <= window.end:
            return window
        if self.may_map:
            self._close_window()
            try:
                window = Window(self._fd, self.size, max(room, min(WINDOW_BYTES, self._capacity - self.size)))
            except (OSError, ValueError):
                # No room for a whole window: a write call finds out whether there is room for a frame.
                self.may_map, window = False, None
                os.ftruncate(self._fd, self.size)
            self._window = window
        return window

    def close(self, *, is_ours: bool = True) -> None:
        """Cut off what is behind the last frame, unless the file belongs to another process since a fork."""
        is_longer = self._window is not None
        self._close_window()
        with contextlib.suppress(OSError):
            if is_longer and is_ours:
                os.ftruncate(self._fd, self.size)
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def _close_window(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            window.close()
