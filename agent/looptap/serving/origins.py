"""Which file a model's weights came from: what connects a model that answers with the run that trained it.

Integrations tell which object came out of which file. Objects are known as long as they live; the digest is that of the file as it
was when it was read, or there is none.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from looptap.digests import OpenFile, Unobtainable
from looptap.events import File

#: Of what came out of one file so many arrays are remembered; two that come from different files are found among fewer.
_MOST_ARRAYS = 10_000


class Origins:
    """Of this process. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        #: By id: a reference, which ends the entry, and the file.
        self._files: dict[int, tuple[weakref.ref[Any], File]] = {}

    def loaded(self, result: Any, path: Any) -> None:
        """This came out of that file just now: a model, or a collection of arrays."""
        file = _file(path)
        if file is not None:
            for one in _parts(result):
                self.put(one, file)

    def put(self, one: Any, file: File | None) -> None:
        """None: from nowhere that is known, whatever was known before. What cannot be referred to weakly (a dict, a number) is not
        remembered."""
        number = id(one)
        if file is None:
            with self._lock:
                self._files.pop(number, None)
            return

        def forget(gone: weakref.ref[Any]) -> None:
            with self._lock:
                known = self._files.get(number)
                if known is not None and known[0] is gone:
                    del self._files[number]

        try:
            reference = weakref.ref(one, forget)
        except TypeError:
            return
        with self._lock:
            self._files[number] = (reference, file)

    def of(self, one: Any) -> File | None:
        with self._lock:
            known = self._files.get(id(one))
        return known[1] if known is not None and known[0]() is one else None

    def of_all(self, some: Iterable[Any]) -> File | None:
        """The one file that all of these came from; None where one came from elsewhere, or there are none."""
        found: File | None = None
        for one in some:
            file = self.of(one)
            if file is None or (found is not None and file is not found):
                return None
            found = file
        return found


ORIGINS = Origins()


def digest(file: File) -> str | None:
    """SHA-256 in hex of the file as it was read; None when it is no longer that. Takes its time for a large one."""
    try:
        opened = OpenFile(file)
    except Unobtainable:
        return None
    try:
        return opened.digest()
    except Unobtainable:
        return None
    finally:
        opened.close()


def _file(path: Any) -> File | None:
    try:
        absolute = os.path.abspath(os.fsdecode(os.fspath(path)))
        facts = os.stat(absolute)
    except (OSError, TypeError, ValueError):
        return None
    return File(
        path=absolute,
        name=os.path.basename(absolute),
        time_ns=time.time_ns(),
        size_bytes=facts.st_size,
        modified_ns=facts.st_mtime_ns,
        role="input",
        kind="model",
        inode=facts.st_ino,
    )


def _parts(result: Any) -> Iterator[Any]:
    """The object itself, or what is in a collection of them."""
    waiting, count = [result], 0
    while waiting and count < _MOST_ARRAYS:
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += one.values()
        elif type(one) in (list, tuple):
            waiting += one
        else:
            count += 1
            yield one
