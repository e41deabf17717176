"""What hooks and user calls hand their values to. One recorder per process; it writes into the run under way.

Every method may be called from any thread at any time, returns at once, and never raises on account of a value: what cannot
be recorded is counted by reason. When a method returns, the record is in the journal and survives the death of the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from looptap.events import Context


class Recorder:
    #: The last completed training step, counted from 0 by the integration that sees the optimizer; -1 before the first.
    step: int = -1

    def begin(self) -> None:
        """Training has shown itself (an optimizer, a backward pass): start the run if none is under way."""

    def metrics(
        self, values: Mapping[str, float], step: int, context: Context | None = None, time_ns: int | None = None
    ) -> None:
        """Values at one step. This is the path of every training step: hand over all that belongs together at once."""

    def param(self, key: str, value: Any, source: str) -> None:
        """A setting. Before the run has begun it is kept and written when it does."""

    def params(self, values: Mapping[str, Any], source: str) -> None: ...

    def tag(self, key: str, value: str) -> None: ...

    def file(self, path: Any, *, name: str | None = None, role: str = "output", kind: str | None = None,
             step: int | None = None, description: str | None = None) -> None:
        """A file that has just been written (``output``) or read (``input``). Hashed and stored off this thread."""

    def note(self, topic: str, message: str) -> None:
        """Why something is not captured; one sentence. The same note again is ignored."""
