"""What ``predict`` and evaluations saw of the model that is trained: what serving is compared with.

``predict`` gives arrays of numpy on every backend, without labels. In an evaluation, predictions pass as values on PyTorch, and
elsewhere where it is not compiled. A graph of TensorFlow keeps some of them (:mod:`~looptap_integrations.keras.graph_rows`); a
function of JAX hands out nothing. Only the model that was trained last counts: a program may ask others, whose files are not
those that it writes.
"""

from __future__ import annotations

import importlib
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from looptap.integration import Capture
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap.serving.answers import MOST_ROWS, Skipped, keep
from looptap.serving.reference import MOST_BATCHES, Batch, References, Sample
from looptap_integrations.keras.calls import Calls
from looptap_integrations.keras.tracing import is_symbolic_on

CAPTURES = (
    Capture(
        "what a served model is compared with: predictions of the model that was trained last",
        "Model.predict of 200 rows or more",
        "each call within a run",
        "in the background",
    ),
    Capture(
        "the same of evaluations and of the validation of fit, with labels; in a graph of TensorFlow, variables beside the"
        " program's operations keep some rows of some batches; on JAX only with run_eagerly or jit_compile=False",
        "Model.compute_metrics",
        "each pass",
        "in the background; in a graph some operations more a batch",
    ),
)
NOT_CAPTURED = (
    "predictions of evaluate and of the validation of fit in a compiled function of JAX, which hands out nothing; with several"
    " replicas of tf.distribute; of what was compiled before autolog(); pictures and sequences",
)

#: Fewer predictions say nothing about a drift, and are what loops ask for that act on each.
_LEAST_ROWS = 200


class Predictions:
    def __init__(self, record: Recorder, calls: Calls) -> None:
        self._record = record
        self._calls = calls
        self._references = References(record.window, record.note)
        #: In each thread that evaluates: what is kept of the pass under way.
        self._here = threading.local()
        self._is_symbolic: Callable[[Any], bool] = lambda value: False
        #: Of graphs of TensorFlow, by model.
        self._graphs: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()
        self._graph_rows: Any = None

    def install(self, patch: Patcher, trainer: type, backend: str) -> None:
        """``trainer`` is the class that has ``compute_metrics``."""
        self._is_symbolic = is_symbolic_on(backend)
        if backend == "tensorflow":
            self._graph_rows = importlib.import_module("looptap_integrations.keras.graph_rows")
        patch.tap(trainer, "compute_metrics", self.on_metrics, None)

    def evaluated(self, call: Call, model: Any, split: str) -> Observation:
        """An evaluation of this model, as an observer of the call."""
        outer = getattr(self._here, "sample", None)
        sample = self._here.sample = Sample() if self._calls.is_trained(model) else None
        if sample is not None:
            with self._references.guard:
                for rows in self._graphs.get(model, ()):
                    rows.begin()
        yield
        self._here.sample = outer
        if sample is not None and call.error is None and self._is_kept():
            with self._references.guard:
                self._take_rows(model, sample)
            self._references.tell(sample, split)

    def on_metrics(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """``compute_metrics(x, y, y_pred, …)`` of a step: of a training, too, which is no evaluation."""
        sample = getattr(self._here, "sample", None)
        if sample is None or self._references.guard.closed:
            return
        labels = args[2] if len(args) > 2 else kwargs.get("y")
        predicted = args[3] if len(args) > 3 else kwargs.get("y_pred")
        with self._references.guard:
            if any(map(self._is_symbolic, _outputs(predicted))):
                if self._graph_rows is not None:
                    self._write_rows(args[0], predicted, labels)
            elif sample.wants_next() and _rows(predicted):
                kept = keep(predicted)
                if not isinstance(kept, Skipped):  # too large, or on a device that does not give it
                    sample.add(Batch(kept, keep(labels) if _rows(labels) else None, ""))

    def predicted(self, call: Call, split: Callable[[], str]) -> None:
        """``predict`` has answered."""
        if not self._calls.is_trained(call.instance) or self._references.guard.closed:
            return
        with self._references.guard:
            rows = _rows(call.result)
            if rows >= _LEAST_ROWS:
                sample = Sample()
                for piece in _pieces(call.result, rows):
                    sample.seen += 1
                    sample.add(Batch(keep(piece), None, ""))
                if self._is_kept():
                    self._references.tell(sample, split())

    def finish(self) -> None:
        self._references.finish()

    def _is_kept(self) -> bool:
        record = self._record
        return record.is_first and record.is_under_way() and not record.is_suppressed()

    def _write_rows(self, model: Any, predicted: Any, labels: Any) -> None:
        """The graph of an evaluation of this model is being built."""
        kind = self._graph_rows
        form = kind.form_of(predicted)
        if form is None or importlib.import_module("tensorflow").distribute.get_strategy().num_replicas_in_sync > 1:
            return
        labels = labels if kind.form_of(labels) is not None else None
        form = form, kind.form_of(labels)
        known = self._graphs.setdefault(model, [])
        rows = next((one for one in known if one.form == form), None)
        if rows is None:
            with suppress(ValueError):  # longer rows than are kept
                rows = kind.GraphRows(form, predicted, labels)
                known.append(rows)
        if rows is not None:
            rows.write(predicted, labels)

    def _take_rows(self, model: Any, sample: Sample) -> None:
        for rows in self._graphs.get(model, ()):
            count, batches = rows.take()
            for predicted, labels in batches:
                sample.add(Batch(keep(predicted), None if labels is None else keep(labels), ""))
            sample.seen += count


def _outputs(answer: Any) -> list[Any]:
    if isinstance(answer, dict):
        return list(answer.values())
    return list(answer) if isinstance(answer, (list, tuple)) else [answer]


def _rows(answer: Any) -> int:
    """How many rows of classes or numbers; 0 of what serving could not be compared with: pictures, sequences, nothing."""
    sizes = {tuple(getattr(one, "shape", ())) for one in _outputs(answer)}
    rows = {size[0] if 1 <= len(size) <= 2 else 0 for size in sizes}
    return rows.pop() if len(rows) == 1 else 0


def _pieces(answer: Any, rows: int) -> Iterator[Any]:
    """All of it in pieces, each spread over it, as many as a sample takes."""
    count = min(MOST_BATCHES, -(-rows // MOST_ROWS))
    for first in range(count):
        if isinstance(answer, dict):
            yield {name: array[first::count] for name, array in answer.items()}
        elif isinstance(answer, (list, tuple)):
            yield [array[first::count] for array in answer]
        else:
            yield answer[first::count]
