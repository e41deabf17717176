"""``train_on_batch``: loops of the program, each batch of which is a step.

Where several models are trained in turns (a GAN), a step is a round in which each has been trained at most once. Of a name that two
of them have, ``loss`` say, the first keeps the plain series, and the others have the model's name as context.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from looptap.events import Context
from looptap.frames import outward, package_of
from looptap.patching import Call, Observation
from looptap.plain import is_number, number
from looptap.recorder import Recorder
from looptap.rounds import Rounds
from looptap_integrations.keras.calls import Calls, name_of
from looptap_integrations.keras.datasets import Datasets
from looptap_integrations.keras.evaluations import BETWEEN
from looptap_integrations.keras.facts import Facts
from looptap_integrations.keras.rates import NAME
from looptap_integrations.keras.rates_between import RatesBetween


class SingleBatches:
    def __init__(self, record: Recorder, calls: Calls, facts: Facts, datasets: Datasets) -> None:
        self._record = record
        self._calls = calls
        self._facts = facts
        self._datasets = datasets
        self._rounds: Rounds[float] = Rounds()
        self._generation = record.generation
        self._trainings = record.trainings
        self._models: weakref.WeakSet[Any] = weakref.WeakSet()
        self._rates: weakref.WeakKeyDictionary[Any, RatesBetween] = weakref.WeakKeyDictionary()
        #: In each thread that is in such a call: the values by name, which the program may get as a list.
        self._here = threading.local()

    def on_train_on_batch(self, call: Call) -> Observation:
        if self._record.is_suppressed():
            return
        self._here.logs = None
        self._calls.set_aside(call.instance)
        rates = self._rates_of(call.instance).now(call.instance)
        with self._record.cover("loss", "validation"):
            yield
        self._calls.go_on(call.instance)
        logs = call.result if isinstance(call.result, Mapping) else self._here.logs
        if call.error is None and logs:
            values = {str(name): number(value) for name, value in logs.items() if is_number(value)}
            self._write(call.instance, values, rates)
            self._datasets.given(call)

    def on_flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keras makes a list of the values."""
        self._here.logs = args[1] if len(args) > 1 else kwargs.get("logs")

    def _rates_of(self, model: Any) -> RatesBetween:
        found = self._rates.get(model)
        if found is None:
            found = self._rates[model] = RatesBetween()
        return found

    def _write(self, model: Any, values: dict[str, float], rates: dict[str, float]) -> None:
        record, calls = self._record, self._calls
        record.begin()
        self._facts.trained(model)
        if calls.is_leading:
            step, context = calls.counts.own(model), {"model": name_of(model)}
            record.log_metrics(values, step, context, source="keras")
        else:
            step, series = self._step(model, values)
            context = {"model": name_of(model)} if len(self._models) > 1 else {}
            for where, its_own in series:
                record.log_metrics(its_own, step, where, source="keras")
            record.step = step
        for where, rate in self._rates_of(model).changed(rates, context, record.generation):
            record.metrics({NAME: rate}, step, where or None)
        calls.counts.trained(model, 1)

    def _step(self, model: Any, values: dict[str, float]) -> tuple[int, list[tuple[Context | None, dict[str, float]]]]:
        record, rounds = self._record, self._rounds
        if record.generation != self._generation:
            self._generation = record.generation
            rounds.restart()
        if record.trainings != self._trainings:
            self._trainings = record.trainings
            rounds.move(record.step)
        self._models.add(model)
        site = next(
            ((frame.f_code, frame.f_lasti) for frame in outward(sys._getframe(1)) if package_of(frame) not in BETWEEN),
            None,
        )
        for name, value in values.items():
            rounds.backward(site, name, value)
        plain, apart = rounds.complete(id(model), is_alone=len(self._models) == 1)
        series: list[tuple[Context | None, dict[str, float]]] = [(None, dict(plain))] if plain else []
        if apart:
            series.append(({"model": name_of(model)}, apart))
        return rounds.step, series
