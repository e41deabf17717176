"""What waits in the journals of this machine."""

from __future__ import annotations

from contextlib import suppress

from looptap.journal.folder import Unusable, find_journals, read_meta
from looptap.journal.reader import unread
from looptap.settings import journal_root


def runs_with_journals() -> set[str]:
    """Ids of the runs that have a journal on this machine: they are under way here, or wait to be delivered."""
    root = journal_root()
    found = set()
    with suppress(Unusable, OSError):
        for folder in find_journals(root) if root is not None else []:
            with suppress(Unusable):
                found.add(read_meta(folder).run)
    return found


def in_journal(journal: str, position: int) -> int:
    """How many records of this journal, from ``position`` on, wait on this machine's disk; 0 when it is not here."""
    root = journal_root()
    try:
        # The id came from a store, so it is compared with the folders that there are, never made into a path.
        found = [] if root is None else [folder for folder in find_journals(root) if folder.name == journal]
        return sum(unread(folder, position) for folder in found)
    except (Unusable, OSError):
        return 0
