"""The one way into a store, for the embedded sink and for the receiver alike: check, then write.

What is wrong with a batch for good is :class:`Rejected`. Whatever else goes wrong is the store's state of the
moment, and the sender keeps the batch and tries again.
"""

from __future__ import annotations

from looptap.events import Batch
from looptap_collector.backend import Backend, Outcome
from looptap_collector.validation import check


class Pipeline:
    """Safe to call from several threads, as its backend is."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def accept(self, batch: Batch) -> Outcome:
        """Store a batch, once, however often it comes. It is safe when this returns."""
        check(batch)
        return self._backend.write(batch)
