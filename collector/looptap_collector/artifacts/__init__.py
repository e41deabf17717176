"""The content of files, by digest: in a folder, or in the object storage of a cloud.

:func:`open_artifacts` opens the store that an address names. What an :class:`ArtifactStore` promises holds for every
one of them, and one contract suite checks it against real servers.
"""

from looptap_collector.artifacts.addresses import open_artifacts
from looptap_collector.artifacts.keeping import DEFAULT_LIMIT_BYTES, keep
from looptap_collector.artifacts.local import LocalArtifacts
from looptap_collector.artifacts.sources import Source, Unobtainable
from looptap_collector.artifacts.store import ArtifactStore, ArtifactsUnavailable, DamagedArtifact, Stored

__all__ = [
    "DEFAULT_LIMIT_BYTES",
    "ArtifactStore",
    "ArtifactsUnavailable",
    "DamagedArtifact",
    "LocalArtifacts",
    "Source",
    "Stored",
    "Unobtainable",
    "keep",
    "open_artifacts",
]
