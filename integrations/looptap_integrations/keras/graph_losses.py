"""The losses of steps that TensorFlow has compiled: a ring beside the program's operations keeps each.

Which value belongs to which step is told by order: every step writes the same losses, one after the other. The ring is read on the
thread that trains, after Keras has waited for the values of the same batch, and only now and then: what is not read yet, the ring
has. Where it does not have exactly what that many steps write, none is recorded from there on.
"""

from __future__ import annotations

import importlib
import time
import weakref
from collections import deque
from typing import Any

from looptap.events import Context
from looptap.recorder import Recorder

_CAPACITY = 1024
#: The ring is read when so many of its places are used, or so many seconds have passed.
_USED, _SECONDS = 256, 0.5


class GraphLosses:
    """Of one model, whose train function was built while we watched."""

    def __init__(self, record: Recorder, at_once: int) -> None:
        """``at_once`` steps are executed before anybody can read."""
        self._record = record
        rings = importlib.import_module("looptap_integrations.rings")
        self._ring = rings.Ring(max(_CAPACITY, 4 * at_once))
        #: Names of losses in the order in which a step writes them.
        self._names: list[str] = []
        #: Graphs that have been built, with the names that are written in each.
        self._graphs: list[tuple[weakref.ref[Any], set[str]]] = []
        #: Why no values are to be had, in one sentence.
        self.missing = ""
        #: Values since the fit began, and those of the ring that come after them.
        self._count = 0
        self._fetched: list[Any] = []
        #: When executions ended that have not been read yet: the number of steps by then, and the time.
        self._ended: deque[tuple[int, int]] = deque()
        self._read_at = 0.0

    def write(self, name: str, value: Any) -> None:
        """A step that is being built hands this loss to its metric."""
        tensorflow = importlib.import_module("tensorflow")
        if value.shape.rank != 0:
            self.missing = f"{name} is left out: by its shape, {value.shape}, it is no single number"
        elif tensorflow.distribute.get_strategy().num_replicas_in_sync > 1:
            self.missing = f"{name} is left out: each replica has its own"
        elif name in self._written_in(value.graph):
            self.missing = f"{name} is left out: the metric is updated more than once in a step"
        if self.missing:
            self._record.note("keras", self.missing)
            return
        self._written_in(value.graph).add(name)
        if name not in self._names:
            self._names.append(name)
        self._ring.write(value, self._names.index(name))

    def came_late(self) -> None:
        """There were steps before it that are not in it."""
        self.missing = "the losses of batches are left out: the model was compiled before autolog()"
        self._give_up()

    def begin(self, steps: int = 0) -> None:
        """A fit begins, or goes on after so many steps. What is there already belongs to none that are to come."""
        self._ring.entries()
        self._ring.lost = 0
        self._count = steps * len(self._names)
        self._fetched.clear()
        self._ended.clear()
        self._read_at = time.monotonic()

    def ended(self, steps: int, time_ns: int) -> None:
        """An execution is over, and with it so many steps of the fit."""
        self._ended.append((steps, time_ns))

    def is_due(self) -> bool:
        used = self._ended[-1][0] * len(self._names) - self._count if self._ended else 0
        return used >= _USED or time.monotonic() - self._read_at >= _SECONDS

    def steps(self) -> int:
        """How many steps of the fit have been made, told by what they have written."""
        self._fetch()
        return (self._count + len(self._fetched)) // max(1, len(self._names))

    def read(self, first: int, steps: int, context: Context | None, is_whole: bool = True) -> None:
        """Record the losses of these steps; ``first`` is the number of the fit's first one. ``is_whole``: none has begun since."""
        self._fetch()
        names, fetched = self._names, self._fetched
        if self.missing or (is_whole and self._count + len(fetched) != steps * len(names)):
            self._give_up()
            return
        values: dict[str, float] = {}
        for mark, value in fetched:
            step, place = divmod(self._count, len(names))
            if mark != place:
                self._give_up()
                return
            self._count += 1
            values[names[place]] = value
            if place == len(names) - 1:
                if step < steps:
                    self._record.metrics(values, first + step, context, self._time(step))
                values = {}
        fetched.clear()

    def _fetch(self) -> None:
        ring = self._ring
        self._fetched += ring.entries()
        if ring.lost:
            self._record.drop("overwritten", ring.lost)
            self.missing = "the losses of batches are left out: there were too many of them at once"
            ring.lost = 0
        self._read_at = time.monotonic()

    def _time(self, step: int) -> int | None:
        """When the execution ended that this step was in."""
        ended = self._ended
        while ended and ended[0][0] <= step:
            ended.popleft()
        return ended[0][1] if ended else None

    def _give_up(self) -> None:
        self._fetched.clear()
        self._ended.clear()
        self.missing = self.missing or "the losses of batches are left out: not every step hands over the same ones"
        self._record.note("keras", self.missing)

    def _written_in(self, graph: Any) -> set[str]:
        """Names of losses that are written in this graph."""
        self._graphs = [(reference, names) for reference, names in self._graphs if reference() is not None]
        for reference, written in self._graphs:
            if reference() is graph:
                return written
        self._graphs.append((weakref.ref(graph), set()))
        return self._graphs[-1][1]
