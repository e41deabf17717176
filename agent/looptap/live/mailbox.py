"""What the one who wants a profile and the process that takes it write to each other: two small files in the folder of a journal,
each put in its place whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from looptap.journal import beside

LONGEST_SECONDS = 600.0
TAKING, DONE, FAILED = "taking", "done", "failed"
_REQUEST, _ANSWER = "request", "answer"


class Request(msgspec.Struct, frozen=True):
    id: str
    seconds: float


class Answer(msgspec.Struct, frozen=True):
    """``files`` are the names of the run's artifacts; ``said`` what there is to say beside, one line each. ``is_stored``: whether
    the files are in the store by now."""

    id: str
    state: str
    files: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    is_stored: bool = False


def ask(folder: Path, request: Request) -> bool:
    """False when another request is still waiting. Raises OSError."""
    new = beside.place(folder, f"{_REQUEST}.{request.id}")
    beside.write(new, request)
    try:
        os.link(new, beside.place(folder, _REQUEST))
    except FileExistsError:
        return False
    finally:
        new.unlink()
    return True


def take_back(folder: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(beside.place(folder, _REQUEST))


def asked(folder: Path) -> Request | None:
    """What somebody has asked for, once. None when there is nothing, or nothing that can be understood."""
    path = beside.place(folder, _REQUEST)
    if not path.exists():
        return None
    found = beside.found(path, Request)
    with contextlib.suppress(OSError):
        path.unlink()
    return found if found is not None and 0 < found.seconds <= LONGEST_SECONDS else None


def answer(folder: Path, told: Answer) -> None:
    """Takes the place of the answer before. Raises OSError."""
    beside.leave(beside.place(folder, _ANSWER), told)


def answered(folder: Path) -> Answer | None:
    return beside.found(beside.place(folder, _ANSWER), Answer)
