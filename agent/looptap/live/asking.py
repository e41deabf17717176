"""The side of the one who wants a profile: finds the journal of a run on this host, asks, and waits.

The journal is there from the first record on, in the store a run may be later, or not at all while it cannot be reached.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from looptap.journal.folder import LOCK, JournalMeta, Unusable, find_journals, read_meta
from looptap.live import mailbox
from looptap.live.mailbox import Answer, Request
from looptap.settings import journal_root

#: It looks once a second; a machine that is busy gets more time than that.
TAKEN_SECONDS = 15.0
#: After the profile itself: to write it, and until the store has it.
DONE_SECONDS = 120.0
_PAUSE_SECONDS = 0.1
#: As for the runs of a store.
_SHORTEST_BEGINNING = 4


class CannotProfile(Exception):
    """Why, in one line."""


class Ended(CannotProfile):
    """The run has ended before its profile was done."""


def under_way(which: str, store: str) -> JournalMeta | None:
    """The training on this machine that records into this store and is meant by ``latest``, an id, a name (the newest of that
    name), or the beginning of one id. None where there is no such one."""
    alive = [meta for meta, folder in _journals() if meta.store == store and _is_alive(folder)]
    alive.sort(key=lambda meta: meta.created_ns)
    by_beginning = {meta.run for meta in alive if len(which) >= _SHORTEST_BEGINNING and meta.run.startswith(which)}
    for meant in (
        [meta for meta in alive if meta.run == which],
        alive if which == "latest" else [meta for meta in alive if meta.run_name == which],
        [meta for meta in alive if len(by_beginning) == 1 and meta.run in by_beginning],
    ):
        if meant:
            return meant[-1]
    return None


def profile(run: str, name: str, host: str | None, seconds: float, progress: Callable[[str, float], None]) -> Answer:
    """Of the run with this id, which its user calls ``name``. ``progress`` is told what it waits for, and for how many seconds so
    far.

    Raises :class:`CannotProfile`.
    """
    folder = _journal(run, name, host)
    request = Request(os.urandom(8).hex(), seconds)
    try:
        if not mailbox.ask(folder, request):
            raise CannotProfile(f"somebody else has just asked for a profile of {name}; try again in a moment")
    except FileNotFoundError:
        raise Ended(f"run {name} has ended") from None
    except OSError as error:
        raise CannotProfile(f"the journal of {name} cannot be written to: {error}") from None
    _wait(folder, name, request, "asked", TAKEN_SECONDS, progress, lambda told: True)
    answer = _wait(
        folder, name, request, "taking", seconds + DONE_SECONDS, progress, lambda told: told.state != mailbox.TAKING
    )
    if answer.state == mailbox.FAILED:
        raise CannotProfile("; ".join(answer.said))
    return answer


def _journal(run: str, name: str, host: str | None) -> Path:
    here = [(meta, folder) for meta, folder in _journals() if meta.run == run]
    if not here:
        if host is not None and host != socket.gethostname():
            raise CannotProfile(f"run {name} is on host {host}: ask there, as the user that trains")
        raise CannotProfile(f"no journal of run {name} is in {journal_root()}: it has ended, or is another user's")
    for _, folder in sorted(here, key=lambda one: one[0].rank):
        if _is_alive(folder):
            return folder
    raise CannotProfile(f"the process of run {name} is dead")


def _journals() -> Iterator[tuple[JournalMeta, Path]]:
    """Of runs on this machine, one or more of each."""
    root = journal_root()
    try:
        found = [] if root is None else find_journals(root)
    except (OSError, Unusable):
        return
    for folder in found:
        try:
            meta = read_meta(folder)
        except Unusable:
            continue
        if meta.is_primary and meta.is_of_this_machine():
            yield meta, folder


def _is_alive(folder: Path) -> bool:
    """Its owner holds the lock as long as it lives."""
    try:
        fd = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _wait(
    folder: Path,
    name: str,
    request: Request,
    what: str,
    seconds: float,
    progress: Callable[[str, float], None],
    is_enough: Callable[[Answer], bool],
) -> Answer:
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        told = mailbox.answered(folder)
        if told is not None and told.id == request.id and is_enough(told):
            return told
        if not _is_alive(folder):
            raise Ended(f"run {name} has ended before its profile was done")
        progress(what, elapsed)
        time.sleep(_PAUSE_SECONDS)
    mailbox.take_back(folder)
    raise CannotProfile(
        f"run {name} does not answer within {seconds:.0f} s: it hangs outside of Python, was stopped, or was started with an "
        "older looptap"
    )
