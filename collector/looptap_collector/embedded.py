"""The collector inside the training process: a store folder, written by the sender's thread.

::

    .looptap/
        looptap.db        runs, params, series, … (SQLite)
        artifacts/        files by digest
        .gitignore        the store is not part of the user's code
"""

from __future__ import annotations

from pathlib import Path

from looptap.events import Artifact, Batch, File
from looptap_collector.artifacts import LocalArtifacts, keep
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.pipeline import Pipeline

DATABASE = "looptap.db"
ARTIFACTS = "artifacts"


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
        self._artifacts = LocalArtifacts(folder / ARTIFACTS)
        self._pipeline = Pipeline(self._backend)

    def position(self, journal: str) -> int:
        return self._backend.position(journal)

    def deliver(self, batch: Batch) -> None:
        self._pipeline.accept(batch)

    def keep_file(self, file: File) -> Artifact:
        return keep(file, self._artifacts)

    def close(self) -> None:
        self._backend.close()
