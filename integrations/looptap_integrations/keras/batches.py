"""The numbers of batches and epochs, taken where Keras itself has turned them into numbers.

What the list of callbacks is told at the end of a batch may still be on its way from a device. Before the program's callbacks get
it, Keras converts it (``pythonify_logs``): on TensorFlow at once, on JAX and PyTorch in a thread of its own, unless a callback
wants it now. So we ask no device and convert nothing: we note which step the values belong to, and record what Keras makes of them,
the very floats that the program's callbacks see. Before Keras 3.6 they are floats from the beginning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from operator import not_
from typing import TYPE_CHECKING, Any

from looptap.events import Context
from looptap.plain import is_number, number
from looptap.recorder import Recorder

if TYPE_CHECKING:
    from looptap_integrations.keras.fits import Fit

_now = time.perf_counter
_NOTHING: dict[str, Any] = {}
_FLOATS = frozenset((float,))


class Row:
    """What belongs to one moment of a training: ``ready`` is known, the rest Keras still has to convert."""

    #: What a value is recorded as, by Keras' name for it; None where that is the same.
    name: Callable[[str], str] | None = None
    #: Values that are here when Keras' own are, to be read then.
    owed: dict[str, Any] = _NOTHING
    #: Called when Keras' values are here, before the row is recorded.
    settle: Callable[[Row], None] | None = None
    #: That which waits for the values.
    fit: Fit | None = None
    #: The run that it belongs to.
    generation = -1
    #: The dict that the program's callbacks get, once it is there.
    numbers: Mapping[str, Any] = _NOTHING

    def __init__(self, ready: dict[str, float], step: int, context: Context | None = None) -> None:
        self.ready = ready
        self.step = step
        self.context = context
        self.time_ns = time.time_ns()


class Batches:
    """Any thread may call any of it."""

    def __init__(self, record: Recorder) -> None:
        self._record = record
        #: Whether Keras converts them where we see it.
        self.are_converted = False
        #: Values that Keras has not converted yet, by the id of their dict, which is kept with them so that it stays its own.
        self._owed: dict[int, tuple[Any, Row]] = {}
        #: Whether there are none, as one call that runs no code of Python's.
        self.owes_nothing: Callable[[], bool] = partial(not_, self._owed)
        #: The run that is under way.
        self._generation = -1
        self._step = -1
        self._known: dict[str, float] = {}

    def put(self, logs: Any, row: Row) -> None:
        """Record this row: now, if all values in ``logs`` are floats, and otherwise when Keras has converted them."""
        record = self._record
        if record.generation != self._generation:
            record.begin()
            self._generation = record.generation
        row.generation = self._generation
        if type(logs) is not dict and not isinstance(logs, Mapping):
            logs = _NOTHING
        for value in logs.values():
            if type(value) is not float:
                if self.are_converted:
                    self._owed[id(logs)] = (logs, row)
                    return
                logs = {key: number(value) if _is_here(value) else value for key, value in logs.items()}
                break
        self.converted(row, logs)

    def before_conversion(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Row | None:
        """Keras is about to convert a dict; None when it is none of ours."""
        found = self._owed.pop(id(args[-1] if args else kwargs.get("logs")), None)
        return None if found is None else found[1]

    def converted(self, row: Row, numbers: Mapping[str, Any]) -> None:
        record = self._record
        if row.fit is not None:
            row.fit.here = _now()
        if row.generation != record.generation:
            return  # of a fit that failed, after whose end another run has begun
        if row.settle is not None:
            row.settle(row)
        values, step = row.ready, row.step
        if row.owed:
            values.update((key, number(value)) for key, value in row.owed.items())
        if row.name is None and _FLOATS.issuperset(map(type, numbers.values())):
            values.update(numbers)
        else:
            self._sift(row, numbers)
        record.metrics(values, step, row.context, row.time_ns)
        if row.context is None:
            self._known = values if step != self._step else {**self._known, **values}
            self._step = step

    def known_at(self, step: int) -> dict[str, float]:
        """What is on record of the last step: for those who are told the same again."""
        return self._known if step == self._step else {}

    def forget(self) -> None:
        """Of a run that is over: what Keras has not converted by now, nobody gets."""
        while self._owed:
            _, (logs, _) = self._owed.popitem()
            self._record.drop("not_converted", len(logs))

    def _sift(self, row: Row, numbers: Mapping[str, Any]) -> None:
        """Add these to the row, as far as they are numbers."""
        row.numbers = numbers
        for key, value in numbers.items():
            if type(value) is float:
                row.ready[key if row.name is None else row.name(key)] = value
            else:
                self._record.note("keras", f"{key} is left out: it is no single number")


def _is_here(value: Any) -> bool:
    """Of the program's own, where Keras has not been: a number of Python's or numpy's, on no device."""
    return isinstance(value, int) or (type(value).__module__ == "numpy" and is_number(value))
