"""Files that the program writes with ``torch.save``."""

from __future__ import annotations

import os
import weakref
from typing import Any

from torch.utils.data import get_worker_info

from looptap.recorder import Recorder


class ModelFiles:
    def __init__(self, record: Recorder) -> None:
        self._record = record
        #: Files that the program still has open, with path and step: their content is on disk once they are closed.
        self.open: list[tuple[weakref.ref[Any], str, int | None]] = []

    def saved(self, target: Any, step: int) -> None:
        """``torch.save`` has written to ``target`` after this step (-1: before the first)."""
        if get_worker_info() is not None:
            return
        at = step if step >= 0 else None
        if isinstance(target, (str, os.PathLike)):
            self._keep(os.fspath(target), at)
            return
        name = getattr(target, "name", None)
        if isinstance(name, str) and os.path.isfile(name):
            self.open.append((weakref.ref(target), os.path.abspath(name), at))

    def look_again(self, at_end: bool = False) -> None:
        """Record those files that were closed in the meantime; at the end of the run, all."""
        still: list[tuple[weakref.ref[Any], str, int | None]] = []
        for reference, path, step in self.open:
            file = reference()
            if file is not None and not file.closed and not at_end:
                still.append((reference, path, step))
            else:
                self._keep(path, step)
        self.open = still

    def _keep(self, path: Any, step: int | None) -> None:
        if os.path.isfile(path):  # it may be gone already: a file that is written, moved and deleted
            self._record.file(path, kind="model", step=step)
