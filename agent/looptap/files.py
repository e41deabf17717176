"""The files of the run under way: each that was written or read becomes a record, once."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from looptap.events import File, JournalRecord
from looptap.noticed import MOST_SMALL_INPUTS, Noticed, Verdict
from looptap.plain import clean


class RunFiles:
    """Of the runs of one process, one after the other. ``begin`` starts a run if none is under way, ``write`` takes a record."""

    def __init__(
        self, begin: Callable[[], None], write: Callable[[File], None], note: Callable[[str, str], None]
    ) -> None:
        self._begin = begin
        self._write = write
        self._note = note
        self.noticed = Noticed()

    def begin_with(self, records: Iterable[JournalRecord]) -> None:
        """Another run, which has the files among these on record and no other."""
        noticed = Noticed()
        for record in records:
            if isinstance(record, File):
                noticed.keep(record)
        self.noticed = noticed

    def look(
        self, path: Any, name: str | None, role: str, kind: str | None, step: int | None, description: str | None
    ) -> None:
        """As :meth:`looptap.recorder.Recorder.file`."""
        absolute = os.path.abspath(os.fsdecode(os.fspath(path)))
        facts = os.stat(absolute)
        if role != "input":
            self._begin()
        elif not stat.S_ISREG(facts.st_mode):
            return
        verdict = self.noticed.look(absolute, facts, name, role, kind)
        if verdict is Verdict.TOO_MANY:
            self._note("inputs", f"more than {MOST_SMALL_INPUTS} small files were read; the others are not recorded")
        if verdict is not Verdict.NEWS:
            return
        self._write(
            File(
                path=clean(absolute),
                name=clean(name or os.path.basename(absolute)),
                time_ns=time.time_ns(),
                size_bytes=facts.st_size,
                modified_ns=facts.st_mtime_ns,
                role=role,
                kind=kind,
                step=step,
                description=None if description is None else clean(description),
                inode=facts.st_ino,
            )
        )


def in_folder(path: Any) -> Iterator[tuple[str, str, str]]:
    """Of each file that lies in a checkpoint: its path, its name (``folder/file``) and its kind. Folders inside are left out, and
    what is no folder has none."""
    if not os.path.isdir(path):
        return
    top = os.path.basename(os.path.abspath(path))
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file())
    for name in names:
        kind = "model" if name.endswith((".safetensors", ".bin", ".pt", ".pth")) else "checkpoint"
        yield os.path.join(path, name), f"{top}/{name}", kind
