"""Where a sender's batches go. The embedded store and (a later issue) a collector over HTTP look the same from here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from looptap.events import Artifact, Batch, File


class Sink(Protocol):
    """Used by one sender thread at a time. ``Rejected`` is permanent; any other error is tried again later."""

    def position(self, journal: str) -> int:
        """One past the last record of this journal that is stored; 0 if none is."""

    def deliver(self, batch: Batch) -> None:
        """Returns when the batch is safe in the store (a batch that was there already counts as delivered)."""

    def keep_file(self, file: File) -> Artifact:
        """Hash and keep the file's content; an :class:`Artifact` without digest says why that was not possible."""

    def close(self) -> None: ...


class NoSink:
    """``store="off"``: everything is accepted and forgotten. For measuring what the agent alone costs."""

    def position(self, journal: str) -> int:
        return 0

    def deliver(self, batch: Batch) -> None:
        return None

    def keep_file(self, file: File) -> Artifact:
        return Artifact(
            name=file.name,
            time_ns=file.time_ns,
            size_bytes=file.size_bytes,
            missing="store is off",
            path=file.path,
            role=file.role,
            kind=file.kind,
            step=file.step,
            description=file.description,
        )

    def close(self) -> None:
        return None


def open_sink(store: str) -> Sink:
    """The sink for a store as :mod:`looptap.settings` resolved it: ``off``, or a folder.

    Raises RuntimeError with one clear line when what it needs is not installed or not supported.
    """
    if store == "off":
        return NoSink()
    if store.startswith(("http://", "https://")):
        raise RuntimeError("a collector over HTTP is not supported by this version; set store to a folder")
    try:
        from looptap_collector.embedded import (
            Embedded,
        )  # the collector is an extra, imported when first needed
    except ModuleNotFoundError as error:
        raise RuntimeError(f"the embedded store needs {error.name}: pip install 'looptap[collector]'") from error
    return Embedded(Path(store))
