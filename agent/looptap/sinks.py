"""Where a sender's batches go. The embedded store and a collector over HTTP look the same from here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from looptap.events import Artifact, Batch, File
from looptap.settings import Settings, is_collector

REQUEST_SECONDS = 20.0


class Unavailable(OSError):
    """The store cannot be used now; the message says why in one line. Nothing is wrong with the records: they wait.

    ``retry_after``: for so many seconds it asks to be left alone, 0 when it does not say.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NeedsUser(Unavailable):
    """Only a person can mend this: a token that is not accepted, a certificate that nobody has signed. It may be mended at any
    time, so it is tried again like any other."""


class Sink(Protocol):
    """Used by one sender thread at a time. ``Rejected`` is permanent; any other error is tried again later."""

    def position(self, journal: str) -> int:
        """One past the last record of this journal that is stored; 0 if none is."""

    def deliver(self, batch: Batch) -> None:
        """Returns when the batch is safe in the store (a batch that was there already counts as delivered)."""

    def keep_file(self, file: File) -> Artifact | None:
        """Hash and keep the content of a file that the run wrote; an :class:`Artifact` without digest says why that was not
        possible.

        None: a part of it is kept; call again for the next one. So a large file holds up neither signs of life nor the exit.
        """

    def close(self) -> None: ...


class NoSink:
    """``store="off"``: everything is accepted and forgotten. For measuring what the agent alone costs."""

    def position(self, journal: str) -> int:
        return 0

    def deliver(self, batch: Batch) -> None:
        return None

    def keep_file(self, file: File) -> Artifact:
        return file.as_artifact(missing="store is off")

    def close(self) -> None:
        return None


def open_sink(store: str, settings: Settings | None = None, *, seconds: float = REQUEST_SECONDS) -> Sink:
    """The sink for a store as :mod:`looptap.settings` resolved it: ``off``, a folder, or a collector. ``settings`` are those of the
    program that asks (for the token); by default they are looked up. A request to a collector takes ``seconds`` at most.

    Raises RuntimeError with one clear line when what it needs is not installed, :class:`Unavailable` when it cannot be used now.
    """
    if store == "off":
        return NoSink()
    if is_collector(store):
        from looptap.http_sink import HttpSink  # requests: for those only who use it

        return HttpSink(store, settings, seconds=seconds)
    try:
        from looptap_collector.embedded import Embedded  # the collector is an extra, imported when first needed
    except ModuleNotFoundError as error:
        raise RuntimeError(f"the embedded store needs {error.name}: pip install 'looptap[collector]'") from error
    return Embedded(Path(store))
