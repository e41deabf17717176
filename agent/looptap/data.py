"""The data sets of the run under way: each is told at once, and again when its fingerprint is known.

What has to be looked for in files is looked for by a thread of its own, one data set after the other. A program that dies before
that leaves a data set without a fingerprint, never one with a wrong one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from looptap.describing import Description
from looptap.events import Dataset
from looptap.fingerprints import Fingerprint, Made, Part, Unknown, of_files, together
from looptap.plain import plain
from looptap.redaction import Redactor

NOT_YET = "not made yet"
TOO_LATE = "the run ended before it was made"
#: A program that makes new data for every pass would fill the store.
MOST_IN_RUN = 64

#: What a store takes of a schema or of details is 64 KiB.
MOST_BYTES = 32_768
#: In characters; a store takes 512 and 64 bytes.
_NAME = 120
_ROLE = 16


class _Job(NamedTuple):
    record: Dataset
    parts: Sequence[Part]
    otherwise: Sequence[Part]
    content: bool


class RunData:
    """Of one run. ``write`` takes a record into its journal; nothing is written once :meth:`settle` has returned."""

    def __init__(
        self, write: Callable[[Dataset], None], note: Callable[[str, str], None], redact: Callable[[str], str]
    ) -> None:
        self._write = write
        self._note = note
        self._redact = redact
        self._lock = threading.Condition()
        self._told: dict[tuple[str, str], Dataset] = {}
        self._jobs: deque[_Job] = deque()
        self._is_working = False
        self._is_over = False

    def tell(
        self, record: Dataset, parts: Sequence[Part], otherwise: Sequence[Part] = (), *, content: bool = False
    ) -> None:
        """The same data again is not told again; other data of the same name and role gets a number behind the name.

        ``otherwise``: what it is made of where files among the parts cannot be looked into. ``content``: files are identified by
        what is in them.
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
                self._jobs.append(_Job(named, parts, otherwise, content))
                self._start()

    def settle(self, seconds: float) -> None:
        """The run ends: wait so long at most for what is under way."""
        with self._lock:
            self._lock.wait_for(lambda: not self._is_working, seconds)
            self._is_over = True
            for job in self._jobs:
                self._write(msgspec.structs.replace(job.record, missing=TOO_LATE))
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
                job = self._jobs[0]
            found = self._looked_for(job)
            with self._lock:
                if self._is_over:
                    return
                self._jobs.popleft()
                self._write(found)

    def _looked_for(self, job: _Job) -> Dataset:
        try:
            return self._made(job.record, job.parts, job.content)
        except Unknown as unknown:
            reason = str(unknown)
        except Exception as error:  # noqa: BLE001 - a file system may say anything
            reason = f"{type(error).__name__}: {error}"[:200]
        ready = [part for part in job.otherwise if isinstance(part, Fingerprint)]
        if ready and len(ready) == len(job.otherwise):
            return _with(job.record, together(ready))
        return msgspec.structs.replace(job.record, missing=reason)

    def _made(self, record: Dataset, parts: Sequence[Part], content: bool) -> Dataset:
        made = [
            part
            if isinstance(part, Fingerprint)
            else of_files(part, content=content, is_wanted=lambda: not self._is_over)
            for part in parts
        ]
        found = _with(record, together([item.fingerprint if isinstance(item, Made) else item for item in made]))
        files = [item for item in made if isinstance(item, Made)]
        counts: dict[str, Any] = {
            "files": sum(item.files for item in files),
            "size_bytes": sum(item.size_bytes for item in files),
        }
        # Where the files are is known better now, if they are in one place.
        root = self._redact(files[0].place) if len(files) == 1 and record.root is not None else record.root
        return msgspec.structs.replace(found, details={**record.details, **counts}, root=root)


def record_of(described: Description, redactor: Redactor, *, name: str | None = None, role: str = "train") -> Dataset:
    """What is told of it, without its fingerprint, as short as a store takes it and without secrets."""

    def known(value: str | None) -> str | None:
        return None if value is None else redactor.storable(value)

    return Dataset(
        name=redactor.storable(name or described.name or "data")[:_NAME],
        time_ns=time.time_ns(),
        role=redactor.storable(role)[:_ROLE] or "train",
        kind=described.kind,
        class_name=known(described.class_name),
        length=described.length,
        split=known(described.split),
        root=known(described.root),
        transform=known(described.transform),
        missing=known(described.missing),
        schema=fitting(redactor.value("", plain(described.schema))),
        details=fitting(redactor.value("", plain(described.details))) or {},
    )


def _with(record: Dataset, made: Fingerprint) -> Dataset:
    return msgspec.structs.replace(
        record, fingerprint=made.value, covers=made.covers, algorithm=made.algorithm, missing=None
    )


def fitting(value: Any) -> Any:
    """Plain data as a store takes it: no longer names than it allows, and None for more than it takes."""
    short = _short(value)
    return short if len(msgspec.json.encode(short)) <= MOST_BYTES else None


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key[:_NAME].replace("\0", " "): _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list) else value
