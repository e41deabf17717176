"""Which artifacts may go: those that no run refers to, and that have not been put there lately.

A file is put into the store before the record that refers to it arrives, so young artifacts are never touched: only what
has been there for ``older_than_s`` without a reference is in a plan, and each is asked about once more before it goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from looptap_collector.artifacts.store import ArtifactStore

DEFAULT_AGE_SECONDS = 86_400.0


@dataclass(frozen=True)
class Plan:
    """What :func:`collect` would delete: sizes in bytes by digest. ``kept`` artifacts stay."""

    digests: Mapping[str, int]
    kept: int
    older_than_s: float

    @property
    def size_bytes(self) -> int:
        return sum(self.digests.values())


@dataclass(frozen=True)
class Collected:
    """What was deleted. ``spared`` were in the plan, and have been put again or referred to since."""

    deleted: int
    size_bytes: int
    spared: int


def plan(referenced: Iterable[str], store: ArtifactStore, older_than_s: float = DEFAULT_AGE_SECONDS) -> Plan:
    """Look only. ``referenced`` are the digests that some run refers to, in any order, as often as they come."""
    before_ns = _before_ns(older_than_s)
    old: dict[str, int] = {}
    kept = 0
    for item in store.digests():
        if item.modified_ns < before_ns:
            old[item.digest] = item.size_bytes
        else:
            kept += 1
    # Read after the listing: a reference that was made meanwhile counts.
    for digest in referenced:
        kept += old.pop(digest, None) is not None
    return Plan(old, kept, older_than_s)


def collect(plan: Plan, store: ArtifactStore, still_referenced: Callable[[str], bool]) -> Collected:
    """Delete what is in the plan and neither referred to nor young by now. Goes as far as it gets: when the store fails, the
    error is raised and what is left can be planned again."""
    before_ns = _before_ns(plan.older_than_s)
    deleted = size_bytes = 0
    for digest, size in plan.digests.items():
        if still_referenced(digest) or _is_young(store, digest, before_ns):
            continue
        store.delete(digest)
        deleted += 1
        size_bytes += size
    return Collected(deleted, size_bytes, len(plan.digests) - deleted)


def _before_ns(older_than_s: float) -> int:
    return time.time_ns() - int(older_than_s * 1e9)


def _is_young(store: ArtifactStore, digest: str, before_ns: int) -> bool:
    try:
        return store.stored(digest).modified_ns >= before_ns
    except KeyError:
        return False
