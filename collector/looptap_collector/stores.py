"""From the address of a store to its backend."""

from __future__ import annotations

from pathlib import Path

from looptap_collector.backends.sql import SqlBackend
from looptap_collector.embedded import open_backend


def open_store(address: str, *, create: bool, durable: bool = False) -> SqlBackend:
    return open_backend(Path(address), create=create)
