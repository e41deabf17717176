"""What a run tells its user: one line when it begins, and one when it has ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from looptap.journal.writer import JournalWriter
from looptap.sender import SenderState
from looptap.settings import is_collector

if TYPE_CHECKING:
    from looptap.session import ActiveRun


def first_line(run: ActiveRun) -> str:
    """Where records go, and how to look at them, as one would type it from here."""
    if run.store == "off":
        where = "off: nothing is kept"
    else:
        where = run.store if is_collector(run.store) else f"{_short(run.store)} · looptap ui"
    return f"run {run.name} → {where}"


def _short(store: str) -> str:
    try:
        relative = os.path.relpath(store)
    except (OSError, ValueError):
        return store
    return relative if not relative.startswith("..") and os.path.isabs(store) else store


def last_line(run: ActiveRun, status: str, delivered: bool) -> str:
    """What of it is in the store, what was lost, and where the rest is. ``delivered``: nothing is left in the journals."""
    if run.store == "off":
        return f"run {run.name} {status} · nothing was kept: the store is off"
    state = run.sender.state() if run.sender else None
    points = state.points_stored if state else 0
    lanes = [(run.journal, state)]
    if run.files.opened is not None:
        lanes.append((run.files.opened, run.files.state()))
    totals: dict[str, int] = {}
    for journal, _ in lanes:
        for reason, count in journal.dropped.items():
            totals[reason] = totals.get(reason, 0) + count
    dropped = sum(totals.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(totals.items()) if count)
    lost = f"{dropped:,} dropped" + (f" ({reasons})" if reasons else "")
    line = f"run {run.name} {status} · {points:,} points stored, {lost}"
    if delivered:
        look = "serving" if run.started.kind == "serving" else f"show {run.name}"
        return line if is_collector(run.store) else f"{line} · looptap {look}"
    errors = [state.error for _, state in lanes if state and state.error]
    why = f": {errors[0]}" if errors else ""
    waiting = sum(_waiting(journal, state) for journal, state in lanes)
    if not waiting:
        return f"{line} · the store did not take everything{why}"
    many = "1 record is" if waiting == 1 else f"{waiting:,} records are"
    return f"{line} · {many} safe in the journal{why} · deliver {'it' if waiting == 1 else 'them'} with: looptap sync"


def _waiting(journal: JournalWriter, state: SenderState | None) -> int:
    """How many records are on the disk, and not in the store as far as we know."""
    from looptap.journal.reader import unread  # the import of looptap is waited for

    folder = journal.folder
    return 0 if folder is None else unread(folder, state.position if state else 0)
