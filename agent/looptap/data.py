"""The data sets of the run under way: each is told at once, and again when its fingerprint is known.

What has to be looked for in files is looked for by a thread of its own, one data set after the other. A program that dies before
that leaves a data set without a fingerprint, never one with a wrong one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from looptap.events import Dataset
from looptap.fingerprints import Fingerprint, Made, Part, Unknown, of_files, together

NOT_YET = "not made yet"
TOO_LATE = "the run ended before it was made"
#: A program that makes new data for every pass would fill the store.
MOST_IN_RUN = 64

_Job: TypeAlias = "tuple[Dataset, Sequence[Part], bool]"


class RunData:
    """Of one run. ``write`` takes a record into its journal; nothing is written once :meth:`settle` has returned."""

    def __init__(self, write: Callable[[Dataset], None], note: Callable[[str, str], None]) -> None:
        self._write = write
        self._note = note
        self._lock = threading.Condition()
        self._told: dict[tuple[str, str], Dataset] = {}
        self._jobs: deque[_Job] = deque()
        self._is_working = False
        self._is_over = False

    def tell(self, record: Dataset, parts: Sequence[Part], *, content: bool = False) -> None:
        """The same data again is not told again; other data of the same name and role gets a number behind the name.

        ``content``: files are identified by what is in them.
        """
        ready = [part for part in parts if isinstance(part, Fingerprint)]
        is_ready = len(ready) == len(parts)
        if is_ready and parts:
            made = together(ready)
            record = _with(record, made)
        elif parts:
            record = msgspec.structs.replace(record, missing=NOT_YET)
        with self._lock:
            if self._is_over:
                return
            named = self._named(record)
            if named is None:
                return
            self._write(named)
            if not is_ready:
                self._jobs.append((named, parts, content))
                self._start()

    def settle(self, seconds: float) -> None:
        """The run ends: wait so long at most for what is under way."""
        with self._lock:
            self._lock.wait_for(lambda: not self._is_working, seconds)
            self._is_over = True
            for record, _, _ in self._jobs:
                self._write(msgspec.structs.replace(record, missing=TOO_LATE))
            self._jobs.clear()

    # --- private ------------------------------------------------------------------------------------------------------

    def _named(self, record: Dataset) -> Dataset | None:
        base, number, timeless = record.name, 1, msgspec.structs.replace(record, time_ns=0)
        while (told := self._told.get((record.role, timeless.name))) is not None:
            if told == timeless:
                return None
            number += 1
            timeless = msgspec.structs.replace(timeless, name=f"{base}#{number}")
        if len(self._told) >= MOST_IN_RUN:
            self._note("data", f"more than {MOST_IN_RUN} data sets in one run: the others are not told")
            return None
        self._told[record.role, timeless.name] = timeless
        return msgspec.structs.replace(record, name=timeless.name)

    def _start(self) -> None:
        if self._is_working:
            return
        self._is_working = True
        try:
            threading.Thread(target=self._work, name="looptap-data", daemon=True).start()
        except RuntimeError:  # the interpreter is shutting down and starts no threads any more
            self._is_working = False

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._is_working = False
                    self._lock.notify_all()
                    return
                record, parts, content = self._jobs[0]
            found = self._made(record, parts, content)
            with self._lock:
                if self._is_over:
                    return
                self._jobs.popleft()
                self._write(found)

    def _made(self, record: Dataset, parts: Sequence[Part], content: bool) -> Dataset:
        try:
            made = [
                part
                if isinstance(part, Fingerprint)
                else of_files(part.root, content=content, is_wanted=lambda: not self._is_over)
                for part in parts
            ]
            whole = together([item.fingerprint if isinstance(item, Made) else item for item in made])
            files = [item for item in made if isinstance(item, Made)]
            counts: dict[str, Any] = {
                "files": sum(item.files for item in files),
                "size_bytes": sum(item.size_bytes for item in files),
            }
            return msgspec.structs.replace(_with(record, whole), details={**record.details, **counts})
        except Unknown as reason:
            return msgspec.structs.replace(record, missing=str(reason))
        except Exception as error:  # noqa: BLE001 - a file system may say anything
            return msgspec.structs.replace(record, missing=f"{type(error).__name__}: {error}"[:200])


def _with(record: Dataset, made: Fingerprint) -> Dataset:
    return msgspec.structs.replace(
        record, fingerprint=made.value, covers=made.covers, algorithm=made.algorithm, missing=None
    )
