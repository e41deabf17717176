"""The collector inside the training process: a store folder, written by the sender's thread.

::

    .looptap/
        looptap.db        runs, params, series, … (SQLite)
        artifacts/        files by digest
        .gitignore        the store is not part of the user's code

The environment variable ``LOOPTAP_ARTIFACT_STORE`` names another place for the files: a folder, or the bucket of a cloud
(:func:`looptap_collector.artifacts.open_artifacts`).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from math import inf
from pathlib import Path

from looptap.events import Artifact, Batch, File, RunEnded, Window
from looptap_collector.artifacts import ArtifactStore, LocalArtifacts, keep, open_artifacts
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.pipeline import Pipeline

DATABASE = "looptap.db"
ARTIFACTS = "artifacts"
ARTIFACT_STORE = "LOOPTAP_ARTIFACT_STORE"
#: A series of fewer full chunks (about 40,000 points) is quick to read as it is.
_MANY_CHUNKS = 16
#: A program that ends waits for us, but not for long.
_COMPACTING_SECONDS = 0.5
#: A program that serves may do so for months. What has become old meanwhile is merged so often, for so long at a time; of a store
#: that has years of it, with so much time between.
_MERGING_SECONDS, _MERGED_WITHIN_SECONDS, _BETWEEN_SECONDS = 600.0, 0.05, 10.0


def open_backend(folder: Path, *, create: bool, durable: bool = False) -> SqliteBackend:
    """The store of a folder. Raises FileNotFoundError when there is none and ``create`` is false, and what
    :class:`SqliteBackend` raises."""
    database = folder / DATABASE
    if create:
        _make_folder(folder)
    elif not database.is_file():
        raise FileNotFoundError(
            f"no looptap store in {folder}: run a training with looptap.autolog(), or give the folder with "
            "store=… or LOOPTAP_STORE"
        )
    return SqliteBackend(database, durable=durable)


def artifacts_of(folder: Path) -> ArtifactStore:
    """Where the files of a store are. Raises :class:`looptap_collector.artifacts.ArtifactsUnavailable`."""
    address = os.environ.get(ARTIFACT_STORE)
    return open_artifacts(address) if address else LocalArtifacts(folder / ARTIFACTS)


def _make_folder(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


class Embedded:
    """A :class:`looptap.sinks.Sink` over a store folder, which is made when it is missing."""

    def __init__(self, folder: Path) -> None:
        self._backend = open_backend(folder, create=True)
        self._folder = folder
        self._artifacts: ArtifactStore | None = None
        self._pipeline = Pipeline(self._backend)
        self._merging_due = -inf

    def position(self, journal: str) -> int:
        return self._backend.position(journal)

    def deliver(self, batch: Batch) -> None:
        self._pipeline.accept(batch)
        if any(isinstance(record, RunEnded) for record in batch.records):
            # The batch is stored; what cannot be compacted now is left to `looptap store compact`.
            with suppress(OSError):
                self._backend.compact(run=batch.run, at_least=_MANY_CHUNKS, within_s=_COMPACTING_SECONDS)
        if time.monotonic() >= self._merging_due and any(isinstance(record, Window) for record in batch.records):
            self._merging_due = time.monotonic() + _MERGING_SECONDS
            with suppress(OSError):
                if not self._backend.merge_windows(within_s=_MERGED_WITHIN_SECONDS).is_complete:
                    self._merging_due = time.monotonic() + _BETWEEN_SECONDS

    def keep_file(self, file: File) -> Artifact:
        if self._artifacts is None:
            # Only now: a bucket that cannot be reached is no reason to keep the points of a run waiting.
            self._artifacts = artifacts_of(self._folder)
        return keep(file, self._artifacts)

    def close(self) -> None:
        self._backend.close()
