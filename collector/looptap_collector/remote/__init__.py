"""A collector's store, read over HTTP as if it were here. See ``docs/collector.md`` for what is asked."""

from __future__ import annotations

from looptap_collector.remote.backend import RemoteBackend
from looptap_collector.remote.contents import RemoteContents

__all__ = ["RemoteBackend", "RemoteContents"]
