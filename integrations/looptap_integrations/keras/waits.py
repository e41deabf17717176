"""How long a ``fit`` waits for its data: what of that is in the train function, which gets its batches itself on most backends.

- JAX, from Python: each ``next`` of the iterator that Keras has made is timed.
- TensorFlow, run eagerly: so is ``get_next`` of the iterator of ``tf.data``.
- TensorFlow, in a graph: two operations around the one that gets the batch read the clock, on the host, and a third writes the
  difference down (:mod:`~looptap_integrations.keras.compiled_steps`).
- PyTorch: nothing; Keras has the batch before it calls.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from looptap.integration import Capture
from looptap.patching import Call, Observation, Patcher
from looptap_integrations.keras.fits import Fit
from looptap_integrations.keras.losses import Losses
from looptap_integrations.keras.phases import DATA

CAPTURES = (
    Capture(
        "time.data, time.train, time.other: the parts of a step",
        "CallbackList, by the host's clock; the iterator that Keras gets its batches from (TensorFlow, JAX)",
        "each batch of fit",
    ),
)
_now = time.perf_counter


class Waits:
    def __init__(self, losses: Losses, backend: str) -> None:
        self._losses = losses
        self._backend = backend
        self._tensorflow: Any = None

    def install(self, patch: Patcher) -> None:
        if self._backend == "jax":
            iterator = importlib.import_module("keras.src.backend.jax.trainer").JAXEpochIterator
            patch.observe(iterator, "_get_iterator", self.on_iterator)
        elif self._backend == "tensorflow":
            self._tensorflow = importlib.import_module("tensorflow")
            iterator = importlib.import_module("tensorflow.python.data.ops.iterator_ops").OwnedIterator
            # The first is what get_next() and next() come to.
            for name in ("_next_internal", "get_next_as_optional"):
                patch.tap(
                    iterator, name, self.before_next, self.after_next, self.failed_next, unless=self._losses.are_idle
                )

    def begin(self, fit: Fit) -> None:
        """This fit is one of Keras' own, and gets its data the way Keras does."""
        fit.is_timed = True
        fit.is_fed = self._backend != "tensorflow"
        fit.until_over.callback(self._ended, fit)

    def on_iterator(self, call: Call) -> Observation:
        yield
        if call.error is None:
            call.result = _Timed(call.result, self._losses)

    def before_next(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Fetch | None:
        fit = self._losses.fit_here()
        if fit is None or not fit.is_in_step or not fit.is_timed:
            return None
        fetch = _Fetch(fit)
        if self._tensorflow.executing_eagerly():
            fetch.began = _now()
        else:
            fetch.began = self._clock()
            fetch.until_over.enter_context(self._tensorflow.control_dependencies([fetch.began]))
        return fetch

    def after_next(self, fetch: _Fetch, batch: Any) -> None:
        fit, tensorflow = fetch.fit, self._tensorflow
        if tensorflow.executing_eagerly():
            fit.waited += _now() - fetch.began
            fit.is_fed = True
            return
        fetch.until_over.close()
        tensors = tensorflow.nest.flatten(batch, expand_composites=True)
        with tensorflow.control_dependencies(tensors[:1]):
            seconds = self._clock() - fetch.began
        if hasattr(batch, "has_value"):
            # At the end of the data there is no step to whom it belongs.
            seconds = tensorflow.where(batch.has_value(), seconds, float("nan"))
        self._losses.graph_of(fit).write(DATA, seconds)

    def failed_next(self, fetch: _Fetch) -> None:
        fetch.until_over.close()

    def _ended(self, fit: Fit) -> None:
        """Say so if it has not told how long it waited."""
        if fit.done and not fit.is_fed and (fit.graph is None or not (fit.graph.has_waits or fit.graph.missing)):
            self._losses.record.note(
                "keras", "no time.data: the model was compiled before autolog(), or tf.distribute hands it its data"
            )

    def _clock(self) -> Any:
        with self._tensorflow.device("CPU:0"):
            return self._tensorflow.timestamp()


class _Fetch:
    """A batch of this fit is being got: since when, by the clock of whoever gets it."""

    __slots__ = ("began", "fit", "until_over")

    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        self.began: Any = None
        self.until_over = ExitStack()


class _Timed:
    """An iterator that Keras has made for the train function of a fit."""

    def __init__(self, batches: Any, losses: Losses) -> None:
        self._batches = batches
        self._losses = losses

    def __iter__(self) -> Iterator[Any]:
        self._batches = iter(self._batches)
        return self

    def __next__(self) -> Any:
        fit = self._losses.fit_here()
        if fit is None or not fit.is_in_step:
            return next(self._batches)
        began = _now()
        batch = next(self._batches)
        fit.waited += _now() - began
        return batch
