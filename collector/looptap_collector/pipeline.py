"""The one way into a store, for the embedded sink and for the receiver alike: check, then write.

What is wrong with a batch for good is :class:`Rejected`. Whatever else goes wrong is the store's state of the
moment, and the sender keeps the batch and tries again.
"""

from __future__ import annotations

from collections.abc import Sequence

from looptap.events import Batch
from looptap_collector.backend import Arrival, Backend, Outcome, Rejected
from looptap_collector.validation import check


class Pipeline:
    """Safe to call from several threads, as its backend is."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def accept(self, batch: Batch, owner: str | None = None) -> Outcome:
        """Store a batch, once, however often it comes. It is safe when this returns. Raises :class:`Rejected`."""
        (answer,) = self.accept_all([Arrival(batch, owner)])
        if isinstance(answer, Rejected):
            raise answer
        return answer

    def accept_all(self, arrivals: Sequence[Arrival]) -> list[Outcome | Rejected]:
        """The same for several at once, in order; one answer for each. One that is refused does not harm the others."""
        refused: dict[int, Rejected] = {}
        for number, arrival in enumerate(arrivals):
            try:
                check(arrival.batch)
            except Rejected as refusal:
                refused[number] = refusal
        good = [arrival for number, arrival in enumerate(arrivals) if number not in refused]
        answers = iter(self._backend.write(good) if good else ())
        return [refused[number] if number in refused else next(answers) for number in range(len(arrivals))]
