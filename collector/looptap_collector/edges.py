"""Which of the files that a run tells of are edges of their own. The processes of a job often write or read the very same file, and
one after the other they write to the same path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from looptap.events import Artifact

#: Why the content of a file is missing that was overwritten before it was read.
SUPERSEDED = "superseded"
_SAME = ("role", "name", "path", "kind", "step", "digest", "missing")
_Place: TypeAlias = tuple[str, str, int]


def changes(known: Iterable[tuple[int, Artifact]], told: Sequence[Artifact]) -> tuple[list[Artifact], list[int]]:
    """For files that one run tells of: those that become edges, and the ids of ``known`` ones that are none any more.

    A file that agrees with another in all but its time and its description is no second one. What was overwritten at the same
    step by a file that is kept is not missed: then the run has one file there. ``known`` are the edges of the run, or those at
    least that may be concerned: of the same content, or of the same step, or without content.
    """
    edges = {_identity(artifact): (id, artifact) for id, artifact in known}
    kept = {place for _, artifact in edges.values() if artifact.digest and (place := _place(artifact))}
    added: dict[tuple[object, ...], Artifact] = {}
    for artifact in told:
        identity, place = _identity(artifact), _place(artifact)
        if identity in edges or identity in added or (artifact.missing == SUPERSEDED and place in kept):
            continue
        added[identity] = artifact
        if artifact.digest is not None and place is not None:
            kept.add(place)
    gone = [id for id, artifact in edges.values() if artifact.missing == SUPERSEDED and _place(artifact) in kept]
    return [one for one in added.values() if one.missing != SUPERSEDED or _place(one) not in kept], gone


def _identity(artifact: Artifact) -> tuple[object, ...]:
    # Without content and without a step, only the time says that one version that is missing is not the other.
    when = artifact.time_ns if artifact.digest is None and artifact.step is None else None
    return when, *(getattr(artifact, name) for name in _SAME)


def _place(artifact: Artifact) -> _Place | None:
    if artifact.path is None or artifact.step is None:
        return None
    return artifact.role, artifact.path, artifact.step
