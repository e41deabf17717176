"""Which file of this machine a program has read, when all that is known is what it gave to a reader."""

from __future__ import annotations

import os
import re
from typing import Any

from looptap.recorder import Recorder

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]+:/")


def read(record: Recorder, source: Any) -> None:
    """Record the file as data that the run reads. An open file, a buffer, an address or a folder is none."""
    path = local_file(source)
    if path is not None:
        record.file(path, role="input", kind="dataset")


def local_file(source: Any) -> str | None:
    if type(source) not in (str, bytes) and type(source).__module__.partition(".")[0] != "pathlib":
        return None
    try:
        path = os.fsdecode(os.fspath(source))
        if _ADDRESS.match(path):
            return None
        path = os.path.expanduser(path)
        # A pipe would be empty by now.
        return path if os.path.isfile(path) else None
    except (ValueError, OSError):
        return None
