"""From the record of a file to the record of an artifact."""

from __future__ import annotations

from looptap.events import Artifact, File
from looptap_collector.artifacts.sources import Source, Unobtainable
from looptap_collector.artifacts.store import ArtifactStore

DEFAULT_LIMIT_BYTES = 5 * 2**30


def keep(file: File, store: ArtifactStore, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Artifact:
    """Store what a run wrote. Without content, the artifact says why in ``missing``: ``deleted``,
    ``superseded`` (changed since, or while it was read), ``unreadable`` or ``too_large``."""
    digest = missing = None
    if file.size_bytes > limit_bytes:
        missing = "too_large"
    else:
        try:
            digest = store.put(Source(file.path, file.size_bytes, file.modified_ns, file.inode))
        except Unobtainable as reason:
            missing = str(reason)
    return file.as_artifact(digest=digest, missing=missing)
