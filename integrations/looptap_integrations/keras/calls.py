"""The calls of ``fit`` that are under way, and what they leave behind.

A step is a batch of the training. A fit leads: it is the training of the run, and the layers below leave to it what it records
itself. One that comes while another is under way (in a callback of that one, or in another thread) is recorded beside it, as series
with the model's name as context and its own count of steps.
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from contextlib import ExitStack
from typing import Any

from looptap.recorder import Recorder
from looptap_integrations.keras.batches import Batches, Row
from looptap_integrations.keras.counts import Counts
from looptap_integrations.keras.fits import Fit
from looptap_integrations.keras.losses import Losses
from looptap_integrations.keras.optimizers import batches_seen
from looptap_integrations.keras.phases import DATA, OTHER, STEP, TRAIN
from looptap_integrations.keras.rates import RatesOfFit

_now = time.perf_counter
#: What steps write down is read after so many of them at the most, or so many seconds.
_STEPS, _SECONDS = 256, 0.5


class Calls:
    def __init__(self, record: Recorder, batches: Batches, losses: Losses, rates: RatesOfFit) -> None:
        self.record = record
        self.batches = batches
        self.losses = losses
        self.rates = rates
        self.counts = Counts(record)
        #: By the id of the list of callbacks, with a reference that sees to it that none outlives its list.
        self._fits: dict[int, tuple[weakref.ref[Any], Fit]] = {}
        #: Held by the fit that leads.
        self._leading = threading.Lock()

    # --- fit ----------------------------------------------------------------------------------------------------------

    def on_train_begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        callbacks = args[0]
        model = model_of(callbacks)
        if model is None or self.record.is_suppressed():
            return
        with ExitStack() as until_over:
            if self._leading.acquire(blocking=False):
                until_over.callback(self._leading.release)
                fit = self._lead(model, until_over)
            else:
                fit = Fit(model, self.counts.own(model), {"model": name_of(model)})
            until_over.enter_context(self.record.cover("loss", "epoch", "validation", "data", "time"))
            params = getattr(callbacks, "params", None) or {}
            steps = params.get("steps")
            fit.batches = steps if isinstance(steps, int) else None
            fit.is_sure = fit.at_once == 1 or fit.batches is not None
            fit.is_async = getattr(callbacks, "_async_train", False) is True
            if self.losses.has_graphs:
                fit.settle = functools.partial(self._settle, fit)
            self.set_aside(model)
            until_over.callback(self.losses.enter(fit))
            place = id(callbacks)
            self._fits[place] = (weakref.ref(callbacks, lambda _: self.end(place)), fit)
            fit.until_over = until_over.pop_all()

    def on_epoch_begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Fit | None:
        fit = self.fit_of(args[0])
        if fit is not None:
            fit.epoch = args[1] if len(args) > 1 else kwargs.get("epoch")
            fit.ended = fit.here = _now()
            fit.waited = 0.0
        return fit

    # These three are the path of every batch, and written for speed.

    def on_train_batch_begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = self._fits.get(id(args[0]))
        if found is not None:
            fit = found[1]
            fit.began = _now()
            fit.is_in_step = True
            fit.batch = args[1] if len(args) > 1 else kwargs["batch"]

    def on_train_batch_end(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Fit | None:
        """Before the program's callbacks: what they log belongs to the step that is over now."""
        found = self._fits.get(id(args[0]))
        if found is None:
            return None
        now = _now()
        fit = found[1]
        count = 1 if fit.at_once == 1 else fit.executed()
        fit.done = done = fit.done + count
        fit.is_in_step = False
        step = fit.first + done - 1
        values = {STEP: (now - fit.ended) / count}
        row = Row(values, step, fit.context)
        between: float | None = None
        inside = 0.0
        if fit.is_timed:
            told, began, here = fit.told, fit.began, fit.here
            between, inside = began - told, now - began + here - fit.ended
            values[OTHER] = (told - here) / count
            if fit.is_fed:
                waited = fit.waited
                values[DATA], values[TRAIN] = (between + waited) / count, (inside - waited) / count
                fit.waited = 0.0
        if fit.graph is not None:
            fit.graph.ended((done, row.time_ns, between, inside))
        fit.ended = fit.here = now
        if not fit.is_async:
            row.fit = fit
        if fit.epoch is not None:
            values["epoch"] = float(fit.epoch)
            fit.epoch = None
        if fit.context is None:
            self.record.step = step
            self.rates.end_step(done, count)
        if fit.losses:
            fit.has_losses = True
            losses, fit.losses = fit.losses, {}
            self.losses.add(losses, row)
        if fit.settle is not None and (done >= fit.settle_at or now >= fit.settle_by or not fit.is_sure):
            row.settle = fit.settle
        self.batches.put(args[2] if len(args) > 2 else kwargs.get("logs"), row)
        return fit

    def told(self, fit: Fit) -> None:
        """The callbacks know that the batch is over, or that the epoch begins: Keras goes for the next batch."""
        fit.told = _now()

    def on_epoch_end(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Row | None:
        """Gives the row of the epoch."""
        fit = self.fit_of(args[0])
        if fit is None:
            return None
        if fit.is_in_step and fit.at_once > 1:
            # Before Keras 3.6 nobody tells the end of an execution in which the data came to its end.
            graph = None if fit.graph is None or fit.graph.missing else fit.graph
            fit.done = max(fit.done, graph.steps() if graph is not None else batches_seen(fit.model) - fit.before)
            if fit.context is None:
                self.record.step = fit.step
        fit.is_in_step = False
        fit.losses.clear()
        fit.read_graph()
        if fit.context is None:
            self.rates.settle(fit.done)
        row = Row({}, max(fit.step, 0), fit.context)
        row.name = name_at_end
        self.batches.put(args[2] if len(args) > 2 else kwargs.get("logs"), row)
        return row

    def after_epoch_end(self, row: Row) -> None:
        """What the program's callbacks have added to the values of the epoch."""
        added = {
            name: value
            for key, value in row.numbers.items()
            if type(value) in (float, int) and (name := name_at_end(key)) not in row.ready
        }
        if added:
            self.record.log_metrics(added, row.step, row.context, source="keras")

    def fit_of(self, callbacks: Any) -> Fit | None:
        """The fit that this list of callbacks was made for."""
        found = self._fits.get(id(callbacks))
        return None if found is None else found[1]

    def end(self, place: int) -> None:
        """The fit of the list of callbacks with this id is over, or has failed."""
        found = self._fits.pop(place, None)
        if found is None:
            return
        fit = found[1]
        fit.read_graph(is_whole=False)
        self.losses.ended(fit)
        fit.until_over.close()
        self.counts.trained(fit.model, fit.done)
        self.go_on(fit.model)

    def end_all(self) -> None:
        for place in list(self._fits):
            self.end(place)

    def finish(self) -> None:
        """The run is over, whether the fits are or not."""
        for _, fit in list(self._fits.values()):
            fit.read_graph(is_whole=False)

    def set_aside(self, model: Any) -> None:
        """Something else trains this model, perhaps inside of a fit: what that one's steps have written down is read before."""
        for _, fit in list(self._fits.values()):
            if fit.model is model:
                fit.read_graph()

    def go_on(self, model: Any) -> None:
        """It is over, and what its steps have written down is none of the fit's."""
        for _, fit in list(self._fits.values()):
            if fit.model is model and fit.graph is not None:
                fit.graph.begin(fit.done)

    def is_trained(self, model: Any) -> bool:
        """Whether it is the model that a fit trains which leads, or that was trained last."""
        leading = [fit.model for _, fit in list(self._fits.values()) if fit.context is None]
        return model is leading[0] if leading else self.counts.is_last(model)

    @property
    def is_leading(self) -> bool:
        """Whether a fit leads the training."""
        return self._leading.locked()

    # --- private ------------------------------------------------------------------------------------------------------

    def _settle(self, fit: Fit, row: Row) -> None:
        """Keras has waited for this batch: what its steps have written down can be read without a wait."""
        graph = fit.graph
        if graph is not None and not graph.missing:
            if not fit.is_sure and (made := graph.steps()) and made < fit.done:
                surplus, fit.done = fit.done - made, made
                row.step = fit.step
                for name in (STEP, OTHER):
                    if name in row.ready:
                        row.ready[name] *= fit.at_once / max(1, fit.at_once - surplus)
                if fit.context is None:
                    self.record.step = fit.step
            fit.read_graph()
        if fit.context is None:
            self.rates.settle(fit.done)
        fit.settle_at = fit.done + (_STEPS if graph is None else graph.room)
        fit.settle_by = _now() + _SECONDS

    def _lead(self, model: Any, until_over: ExitStack) -> Fit:
        record = self.record
        until_over.enter_context(record.training(self.counts.next_step(model)))
        until_over.callback(self.rates.end)
        fit = Fit(model, record.step + 1, None)
        # It answers for the layers below.
        for name, ours in (
            ("is_step_under_way", lambda: fit.is_in_step),
            ("known_at", self.batches.known_at),
            ("split", lambda: "validation" if fit.is_validating else None),
        ):
            until_over.callback(setattr, record, name, getattr(record, name))
            setattr(record, name, ours)
        return fit


def model_of(callbacks: Any) -> Any:
    """The model that a list of callbacks is for."""
    # Not the attribute of Keras 3, which waits for the device on JAX.
    held = vars(callbacks)
    return held.get("_model", held.get("model"))


def name_of(model: Any) -> str:
    return str(getattr(model, "name", type(model).__name__))


def name_at_end(key: str) -> str:
    """Of a value at the end of an epoch: Keras' own name has the batch's running mean already, where it is not a validation's."""
    return key if key.startswith("val_") else f"epoch_{key}"
