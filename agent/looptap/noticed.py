"""Which files a run has on record: each content of each file is there once, however many layers saw it being written and however
often it is read.

``save_pretrained`` calls ``safetensors``, ``torch.export.save`` calls ``torch.save``, a data set reads its cached files in every
epoch. A file that has the path, the size and the time of one that was noticed before is that one.
"""

from __future__ import annotations

import os
import threading
from enum import Enum, auto

from looptap.events import File

#: More files than this are a data set that is read piece by piece, and no model that the run was made of.
MOST_SMALL_INPUTS = 100
SMALL_BYTES = 16 * 2**20
MOST_INPUTS = 1_000


class Verdict(Enum):
    NEWS = auto()
    KNOWN = auto()
    #: One more than are recorded of its kind.
    TOO_MANY = auto()


class Noticed:
    """Of one run. Safe to use from several threads."""

    def __init__(self) -> None:
        # A signal handler on this thread must get in.
        self._lock = threading.RLock()
        #: By role and path: the file as it was last noticed, and under which names.
        self._files: dict[tuple[str, str], tuple[tuple[int, ...], set[str]]] = {}
        #: By kind: how many inputs, and how many of these are small.
        self._inputs: dict[str | None, list[int]] = {}

    def look(self, path: str, found: os.stat_result, name: str | None, role: str, kind: str | None) -> Verdict:
        """What comes of a file that was written or read just now. A name that the program gave it is news, one that is none (None)
        is not."""
        facts = (found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            known, names = self._files.get((role, path), (None, set()))
            if known == facts and (name is None or name in names):
                return Verdict.KNOWN
            if role == "input":
                if self._files.get(("output", path), (None,))[0] == facts:
                    return Verdict.KNOWN  # the run's own: its best checkpoint, read again at the end
                if not self._is_one_more(kind, found.st_size):
                    return Verdict.TOO_MANY
            if known != facts:
                names = set()
            names.add(name or os.path.basename(path))
            self._files[role, path] = (facts, names)
            return Verdict.NEWS

    def keep(self, file: File) -> None:
        """It was noticed before the run began."""
        facts = (file.inode, file.size_bytes, file.modified_ns)
        with self._lock:
            self._files[file.role, file.path] = (facts, {file.name})
            if file.role == "input":
                self._is_one_more(file.kind, file.size_bytes)

    def _is_one_more(self, kind: str | None, size_bytes: int) -> bool:
        counts = self._inputs.setdefault(kind, [0, 0])
        is_small = size_bytes < SMALL_BYTES
        if counts[0] >= MOST_INPUTS or (is_small and counts[1] >= MOST_SMALL_INPUTS):
            return False
        counts[0] += 1
        counts[1] += is_small
        return True
