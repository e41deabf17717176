"""What one call writes under one path: a file, a folder with all below it, or several files whose names begin with it.

A call that writes a model says only where. Which files it has written shows in what lies there before and after::

    place = Place("training/ckpt-5", beside=checkpoint("ckpt-5"))
    before = place.files()
    ...                                          # the call
    place.keep(record, before, step=12)
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from looptap.recorder import Recorder

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]+://")
#: How the names of the files end that TensorFlow makes of a checkpoint.
CHECKPOINT = r"(?:\.index|\.data-\d{5}-of-\d{5})"
#: Inode, size and time of the last change, by path.
Files: TypeAlias = dict[str, tuple[int, int, int]]

#: A folder with more in it is not that of a model.
MOST_FILES = 10_000


class Place:
    def __init__(self, path: str, beside: str = "") -> None:
        """``beside``: a regular expression for the names of files in the same folder that belong to it."""
        self.path = os.path.abspath(path)
        self._folder = os.path.dirname(self.path)
        self._beside = re.compile(beside) if beside else None

    def files(self) -> Files:
        """What lies there now, at most :data:`MOST_FILES`; links to folders are not followed."""
        found: Files = {}
        for path in (self.path, *self._below(self.path), *self._named()):
            try:
                facts = os.stat(path)
            except (OSError, ValueError):  # not there, gone meanwhile, no path at all
                continue
            if stat.S_ISREG(facts.st_mode):
                found[path] = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            if len(found) == MOST_FILES:
                break
        return found

    def keep(
        self,
        record: Recorder,
        before: Mapping[str, Any] | None = None,
        *,
        role: str = "output",
        step: int | None = None,
        description: str | None = None,
    ) -> None:
        """Record each of the files, or those only that are others than they were ``before``. One that stands for itself has its
        own name, any other that of its folder as well."""
        for path, facts in sorted(self.files().items()):
            if before is not None and before.get(path) == facts:
                continue
            try:
                record.file(path, name=self._name(path), role=role, kind="model", step=step, description=description)
            except OSError:  # moved or deleted by another thread or process
                continue

    # --- private ------------------------------------------------------------------------------------------------------

    def _name(self, path: str) -> str | None:
        if path == self.path:
            return None
        above = self._folder if path.startswith(self.path + os.sep) else os.path.dirname(self._folder)
        return os.path.relpath(path, above)

    def _named(self) -> Iterator[str]:
        if self._beside is not None:
            try:
                names = os.listdir(self._folder)
            except (OSError, ValueError):
                return
            yield from (os.path.join(self._folder, name) for name in names if self._beside.fullmatch(name))

    def _below(self, folder: str) -> Iterator[str]:
        folders = [folder]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        else:
                            yield entry.path
            except (OSError, ValueError):  # it is a file, or not there yet
                continue


def checkpoint(path: str) -> str:
    """The files that TensorFlow makes of a checkpoint with this path, as a regular expression for their names."""
    return re.escape(os.path.basename(path)) + CHECKPOINT


def path_of(given: Any) -> str | None:
    """Where a program wants a model to be, if that is on this machine; None for an open file or an address."""
    if not isinstance(given, (str, os.PathLike)):
        return None
    path = os.fspath(given)
    return path if isinstance(path, str) and path and not _ADDRESS.match(path) else None
