"""The loss of a batch itself. What Keras tells at the end of a batch is the running mean of the epoch.

That mean is kept by a metric, a ``Mean``, which is handed the loss of each batch: by the ``train_step`` of every backend, and by
those of programs that follow Keras' guides. There we take it, under the metric's name: ``batch_loss`` of the metric ``loss``,
``batch_kl_loss`` of ``kl_loss``.

- PyTorch, and what runs eagerly elsewhere: the tensor. Read at once on the CPU, and otherwise when the device has it.
- TensorFlow, in a graph: :mod:`~looptap_integrations.keras.compiled_steps`.
- JAX, compiled: the value exists inside of a function that hands out what the program returns and nothing else. It stays missing.
"""

from __future__ import annotations

import importlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

from looptap.patching import Patcher
from looptap.recorder import Recorder
from looptap_integrations.keras.batches import Row
from looptap_integrations.keras.compiled_steps import CompiledSteps
from looptap_integrations.keras.fits import Fit
from looptap_integrations.keras.tracing import is_symbolic_on


class Losses:
    def __init__(self, record: Recorder, backend: str) -> None:
        self.record = record
        self._backend = backend
        #: Whether compiled steps write their losses down.
        self.has_graphs = backend == "tensorflow"
        #: By thread.
        self._under_way: dict[int, Fit] = {}
        self._graphs: weakref.WeakKeyDictionary[Any, CompiledSteps] = weakref.WeakKeyDictionary()
        self._mean: type = object
        self._is_symbolic: Callable[[Any], bool] = lambda value: False

    def install(self, patch: Patcher) -> None:
        self._mean = importlib.import_module("keras.src.metrics.reduction_metrics").Mean
        self._is_symbolic = is_symbolic_on(self._backend)
        if self._backend == "torch":
            # train_step itself may be compiled.
            patch.pass_through_when(importlib.import_module("torch").compiler.is_dynamo_compiling)
        patch.tap(self._mean, "update_state", self.on_update, None)

    def enter(self, fit: Fit) -> Callable[[], None]:
        """What is computed in this thread from here on belongs to this fit, until what this returns is called."""
        thread, under_way = threading.get_ident(), self._under_way
        before = under_way.get(thread)
        under_way[thread] = fit
        fit.graph = self._graphs.get(fit.model)
        if fit.graph is not None:
            fit.graph.begin()

        def leave() -> None:
            if before is not None:
                under_way[thread] = before
            else:
                under_way.pop(thread, None)

        return leave

    def fit_here(self) -> Fit | None:
        """What is under way in this thread."""
        return self._under_way.get(threading.get_ident())

    def are_idle(self) -> bool:
        """Whether no fit is under way in any thread."""
        return not self._under_way

    def on_update(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        metric = args[0]
        if type(metric) is not self._mean:
            return
        fit = self._under_way.get(threading.get_ident())
        if fit is None or not fit.is_in_step:
            return
        known = fit.names.get(id(metric))
        if known is None:
            known = fit.names[id(metric)] = (metric, _name(metric, fit.model))
        name = known[1]
        if name is None:
            return
        value = args[1] if len(args) > 1 else kwargs["values"]
        if self._is_symbolic(value):
            if self.has_graphs:
                self.graph_of(fit).write(name, value)
        elif name in fit.losses:
            fit.losses[name] = None  # a second one: neither is the loss of the batch
        else:
            fit.losses[name] = _taken(value)

    def graph_of(self, fit: Fit) -> CompiledSteps:
        """What the steps of the model write into, one of which is being compiled."""
        if fit.graph is None:
            fit.graph = self._graphs[fit.model] = CompiledSteps(self.record, fit.at_once)
            if fit.done:
                fit.graph.came_late()
        return fit.graph

    def ended(self, fit: Fit) -> None:
        """A fit is over; say so if it has told of no loss of a batch."""
        if (
            self.has_graphs
            and fit.done
            and not (fit.has_losses or (fit.graph is not None and (fit.graph.has_losses or fit.graph.missing)))
        ):
            self.record.note(
                "keras",
                "no batch_loss: the model was compiled before autolog(), or its train_step has no metric for it",
            )

    # --- eager values -------------------------------------------------------------------------------------------------

    def add(self, losses: dict[str, Any], row: Row) -> None:
        """The losses of a step belong to this row."""
        if all(type(value) is float for value in losses.values()):
            row.ready.update(losses)
            return
        of_device: dict[str, Any] = {}
        for name, value in losses.items():
            if type(value) is float:
                row.ready[name] = value
            elif value is None:
                self.record.note("keras", f"{name} is left out: the metric is updated more than once in a step")
            elif self._backend == "torch":
                of_device[name] = value
            else:
                row.owed = {**row.owed, name: value}
        if of_device:
            step, context, time_ns = row.step, row.context, row.time_ns
            self.record.take_from_device(
                of_device, lambda numbers: self.record.metrics(numbers, step, context, time_ns)
            )


def _name(metric: Any, model: Any) -> str | None:
    """Of the loss that this metric is the running mean of."""
    name = metric.name
    if not (name == "loss" or name.endswith("_loss")) or not any(metric is known for known in model.metrics):
        return None
    return f"batch_{name}"


def _taken(value: Any) -> Any:
    """The number, where it is here already; otherwise the tensor, without the graph behind it. None if it is no single number."""
    if getattr(value, "is_cpu", False) is True and not value.shape:  # of PyTorch
        return value.item()
    if isinstance(value, (int, float)):
        return float(value)
    if tuple(getattr(value, "shape", (0,))) != ():
        return None
    return value.detach() if getattr(value, "requires_grad", False) else value
