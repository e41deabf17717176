"""What an evaluation in training saw of a model: its predictions and the labels, in the same streams as in serving, where they are
what the served model is compared with.

A pass may be long: rows are taken evenly from all of it. Numbers are counted around a center near their own median, in units of
their own spread (:mod:`looptap.sketches.framing`), so that a small shift of large numbers is seen.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import exp
from typing import Any, NamedTuple

from looptap.events import Window
from looptap.guard import Guard
from looptap.serving.answers import Part, Skipped
from looptap.serving.devices import DEVICES, Later, Waiting
from looptap.serving.predictions import Streams

#: So many batches of a pass are looked at, at least half of it evenly spread; of each :data:`looptap.serving.answers.MOST_ROWS`.
MOST_BATCHES = 128
#: How long the end of a run waits for a reference that is being made: some 0.1 s, on a busy machine much longer.
_SECONDS = 5.0
#: Between two references of one split.
_PAUSE_SECONDS = 1.0


class Batch(NamedTuple):
    """What was kept of one: predictions, labels (None where nobody knows them), and what turns a row of predictions into
    probabilities (``softmax``, ``exp``, ``sigmoid``, or nothing)."""

    predicted: Any
    labels: Any
    link: str


class Sample:
    """Batches of one pass, evenly spread over it however long it becomes."""

    def __init__(self) -> None:
        self._every = 1
        self.seen = 0
        self.kept: list[Batch] = []
        #: What is on its way from a device, in this order.
        self._waiting: deque[Waiting] = deque()

    def wants_next(self) -> bool:
        """Whether the batch that comes now is one of them."""
        self.seen += 1
        return (self.seen - 1) % self._every == 0

    def add(self, batch: Batch) -> None:
        self.kept.append(batch)
        sealed = None if DEVICES.fetching is None else DEVICES.fetching.seal(None)
        if sealed is not None:
            self._waiting.append(sealed[0])
            self._settle()
        if len(self.kept) > MOST_BATCHES:
            del self.kept[1::2]
            self._every *= 2

    def end(self) -> None:
        """The pass is over. For the thread of the program, as all of this."""
        self._settle()
        while self._waiting:
            self._waiting.popleft().leave()

    def _settle(self) -> None:
        while self._waiting and self._waiting[0].is_done():
            self._waiting.popleft().take()


class References:
    """Makes windows of samples, in a thread of its own: nobody in training waits for it. Of passes that follow each other quickly,
    the last one counts."""

    def __init__(self, write: Callable[[Window], None], note: Callable[[str, str], None]) -> None:
        self._write = write
        self._note = note
        #: Of all that looks at predictions: an odd one costs the reference, and nothing else.
        self.guard = Guard("reference")
        self._thread: threading.Thread | None = None
        #: By split, with the time.
        self._waiting: dict[str, tuple[Sample, int]] = {}
        self._over = threading.Event()

    def tell(self, sample: Sample, split: str) -> None:
        """A pass over this split is over."""
        with self.guard:
            sample.end()
        if not sample.kept or self.guard.closed:
            return
        self._waiting[split] = (sample, time.time_ns())
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._make, name="looptap-reference", daemon=True)
            with suppress(RuntimeError):  # the interpreter is shutting down
                self._thread.start()

    def finish(self) -> None:
        """The run is about to end."""
        thread = self._thread
        self._over.set()
        if thread is not None and thread.is_alive():
            thread.join(_SECONDS)
        if thread is not None and not thread.is_alive():
            self._make()  # what was told while the thread came to its end
        elif thread is not None:
            self._note(
                "reference", f"the last reference is left out: it was not made within {_SECONDS:g} s of the run's end"
            )
        self._thread = None
        self._over.clear()

    def _make(self) -> None:
        while self._waiting and not self.guard.closed:
            split, (sample, time_ns) = self._waiting.popitem()
            with self.guard:
                self._write(reference(sample, split, time_ns))
            if not self._waiting:
                self._over.wait(_PAUSE_SECONDS)


def reference(sample: Sample, split: str, time_ns: int) -> Window:
    predictions, labels = Streams(), Streams()
    rows = 0
    for batch in sample.kept:
        rows += predictions.add(batch.predicted)
        if batch.labels is not None:
            labels.add(batch.labels)
        _add_probabilities(predictions, batch)
    return Window(
        model="",
        time_ns=time_ns,
        seconds=0.0,
        split=split,
        requests=sample.seen,
        predictions={name: one.encode() for name, one in predictions.centered().items()},
        labels={name: one.encode() for name, one in labels.centered().items()},
        skipped=dict(predictions.skipped),
    )


def _add_probabilities(predictions: Streams, batch: Batch) -> None:
    """What a served model may answer instead of the scores that the loss was computed from."""
    rows = _rows(batch.predicted)
    if batch.link in ("softmax", "exp"):
        predictions.add_numbers("confidence", (_greatest(row, batch.link) for row in rows if type(row) is list and row))
    elif batch.link == "sigmoid":
        singles = (row[0] if type(row) is list and len(row) == 1 else row for row in rows)
        predictions.add_numbers("probability", (_sigmoid(one) for one in singles if type(one) is float))


def _rows(kept: Any) -> list[Any]:
    while isinstance(kept, Part | Later):
        kept = kept.value
    if kept is None or isinstance(kept, Skipped):
        return []
    listed = kept.tolist() if hasattr(kept, "tolist") else kept
    return listed if type(listed) is list else [listed]


def _greatest(row: list[float], link: str) -> float:
    greatest = max(row)
    return exp(greatest) if link == "exp" else 1.0 / sum(exp(score - greatest) for score in row)


def _sigmoid(score: float) -> float:
    return 1.0 / (1.0 + exp(-score)) if score > -700 else 0.0
