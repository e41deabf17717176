"""What callbacks of Keras have decided: when a training was stopped and why, and when a learning rate was reduced.

They are looked at when Keras' callbacks have had their turn; nothing of them is changed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from looptap.integration import Capture
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap_integrations.keras.calls import model_of
from looptap_integrations.keras.rates import RatesOfFit

CAPTURES = (
    Capture(
        "fit.callbacks; EarlyStopping.monitor, EarlyStopping.patience, …: what Keras' own callbacks were given",
        "the list of callbacks",
        "once a fit",
    ),
    Capture(
        "EarlyStopping.stopped_epoch, .best_epoch, .best; fit.stopped_epoch: the training was stopped, by whomever",
        "the callbacks, Model.stop_training",
        "once a fit",
    ),
    Capture("lr_reduced: what ReduceLROnPlateau has set", "ReduceLROnPlateau.on_epoch_end", "each time"),
)
#: In every list of callbacks.
_ALWAYS = ("History", "ProgbarLogger")
_PLAIN = (bool, int, float, str)


class Decisions:
    """``keras``: the package, which may be tf-keras."""

    def __init__(self, record: Recorder, keras: Any, rates: RatesOfFit) -> None:
        self._record = record
        self._keras = keras
        self._rates = rates

    def install(self, patch: Patcher) -> None:
        patch.observe(self._keras.callbacks.ReduceLROnPlateau, "on_epoch_end", self.on_plateau)

    def begin(self, callbacks: Any) -> None:
        """A fit with this list of callbacks leads."""
        given = [one for one in getattr(callbacks, "callbacks", ()) if type(one).__name__ not in _ALWAYS]
        if not given:
            return
        self._params({"fit.callbacks": [type(one).__name__ for one in given]})
        for one in given:
            if type(one).__module__.partition(".")[0] == self._keras.__name__:
                self._params({f"{type(one).__name__}.{key}": value for key, value in _settings(one)})

    def end(self, callbacks: Any) -> None:
        """It has come to its end."""
        epochs = getattr(getattr(callbacks, "_history", None), "epoch", None)
        if epochs and getattr(model_of(callbacks), "stop_training", False) is True:
            self._params({"fit.stopped_epoch": epochs[-1]})
        for one in getattr(callbacks, "callbacks", ()):
            if not isinstance(one, self._keras.callbacks.EarlyStopping):
                continue
            name, best = type(one).__name__, getattr(one, "best", None)
            if one.stopped_epoch:
                self._params({f"{name}.stopped_epoch": one.stopped_epoch})
            # Keras before 3.7 begins with an infinite one.
            if best is not None and abs(best) != float("inf"):
                self._params({f"{name}.best": float(best), f"{name}.best_epoch": one.best_epoch})

    def on_plateau(self, call: Call) -> Observation:
        before = self._rates.assigned
        yield
        if call.error is None and self._rates.assigned != before:
            for value, context in self._rates.set_last():
                step = max(self._record.step, 0)
                self._record.metrics({"lr_reduced": value}, step, context)

    def _params(self, values: dict[str, Any]) -> None:
        self._record.params(values, self._keras.__name__)


def _settings(callback: Any) -> Iterator[tuple[str, Any]]:
    for name in inspect.signature(type(callback)).parameters:
        value = getattr(callback, name, None)
        if type(value) in _PLAIN and name != "verbose":
            yield name, value
