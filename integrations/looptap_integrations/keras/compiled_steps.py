"""What steps that TensorFlow has compiled write down: their losses, and how long they waited for data. A ring beside the program's
operations keeps it.

Which value belongs to which step is told by order: every step writes the same values, one after the other. The ring is read on the
thread that trains, after Keras has waited for the values of the same batch, and only now and then: what is not read yet, the ring
has. Where it does not have exactly what that many steps write, none is recorded from there on.
"""

from __future__ import annotations

import importlib
import weakref
from collections import deque
from typing import Any

from looptap.events import Context
from looptap.recorder import Recorder
from looptap_integrations.keras.phases import DATA, TRAIN

_CAPACITY = 1024


class CompiledSteps:
    """Of one model, whose train function was built while we watched."""

    def __init__(self, record: Recorder, at_once: int) -> None:
        """``at_once`` steps are executed before anybody can read."""
        self._record = record
        rings = importlib.import_module("looptap_integrations.rings")
        self._ring = rings.Ring(max(_CAPACITY, 4 * at_once))
        #: Names of values in the order in which a step writes them.
        self._names: list[str] = []
        #: Graphs that have been built, with the names that are written in each.
        self._graphs: list[tuple[weakref.ref[Any], set[str]]] = []
        #: Why no values are to be had, in one sentence.
        self.missing = ""
        #: Values since the fit began, and those of the ring that come after them.
        self._count = 0
        self._fetched: list[Any] = []
        #: Executions that have not been read yet: the steps of the fit by its end, the time of that, and the seconds that Keras
        #: took from one batch to the next, where that is known, and those of the train function with the wait for its values.
        self._executions: deque[tuple[int, int, float | None, float]] = deque(maxlen=_CAPACITY)
        #: What to call at the end of an execution.
        self.ended = self._executions.append

    @property
    def has_waits(self) -> bool:
        """Whether the steps write down how long they wait for data."""
        return DATA in self._names

    @property
    def has_losses(self) -> bool:
        return len(self._names) > self.has_waits

    def write(self, name: str, value: Any) -> None:
        """A step that is being built hands this over."""
        tensorflow = importlib.import_module("tensorflow")
        written = self._written_in(value.graph)
        if value.shape.rank != 0:
            self.missing = f"{name} is left out: by its shape, {value.shape}, it is no single number"
        elif tensorflow.distribute.get_strategy().num_replicas_in_sync > 1:
            self.missing = f"{name} is left out: each replica has its own"
        elif name in written and name != DATA:
            self.missing = f"{name} is left out: the metric is updated more than once in a step"
        if self.missing:
            self._record.note("keras", self.missing)
            return
        written.add(name)
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
        self._executions.clear()

    @property
    def room(self) -> int:
        """So many steps may be made before the next look."""
        return _CAPACITY // 4 // max(1, len(self._names))

    def steps(self) -> int:
        """How many steps of the fit have been made, told by what they have written."""
        self._fetch()
        return (self._count + len(self._fetched)) // max(1, len(self._names))

    def read(self, first: int, steps: int, context: Context | None, is_whole: bool = True) -> None:
        """Record what these steps have written; ``first`` is the number of the fit's first one. ``is_whole``: none has begun
        since."""
        self._fetch()
        names, fetched = self._names, self._fetched
        if self.missing or (is_whole and self._count + len(fetched) != steps * len(names)):
            self._give_up()
            return
        begun = self._count // len(names)
        made: list[dict[str, float]] = []
        values: dict[str, float] = {}
        for mark, value in fetched:
            place = self._count % len(names)
            if mark != place:
                self._give_up()
                return
            self._count += 1
            values[names[place]] = value
            if place == len(names) - 1:
                made.append(values)
                values = {}
        fetched.clear()
        self._write_down(made[: max(0, steps - begun)], begun, first, context)

    def _write_down(self, made: list[dict[str, float]], begun: int, first: int, context: Context | None) -> None:
        """Record these steps, before which the fit had made so many, by the executions that they were in."""
        executions = self._executions
        while executions and executions[0][0] <= begun:
            executions.popleft()
        while made:
            # Before Keras 3.6 nobody tells of an execution in which the data came to its end.
            unknown = (begun + len(made), None, None, 0.0)
            end, time_ns, between, inside = executions.popleft() if executions else unknown
            here = made[: end - begun]
            waits = [step.pop(DATA) for step in here if DATA in step]
            if between is not None and waits:
                waited = min(max(0.0, sum(waits)), inside)
                here[-1][DATA], here[-1][TRAIN] = (between + waited) / len(here), (inside - waited) / len(here)
            for step, values in enumerate(here, first + begun):
                if values:
                    self._record.metrics(values, step, context, time_ns)
            begun += len(here)
            made = made[len(here) :]

    def _fetch(self) -> None:
        ring, names = self._ring, self._names
        for entry in ring.entries():
            # No number where the data had come to its end: there was no step to wait.
            if entry.value == entry.value or names[entry.mark] != DATA:
                self._fetched.append(entry)
        if ring.lost:
            self._record.drop("overwritten", ring.lost)
            self.missing = "the losses of batches are left out: there were too many of them at once"
            ring.lost = 0

    def _give_up(self) -> None:
        self._fetched.clear()
        self._executions.clear()
        self.missing = self.missing or "the losses of batches are left out: not every step hands over the same ones"
        self._record.note("keras", self.missing)

    def _written_in(self, graph: Any) -> set[str]:
        """Names of values that are written in this graph."""
        self._graphs = [(reference, names) for reference, names in self._graphs if reference() is not None]
        for reference, written in self._graphs:
            if reference() is graph:
                return written
        self._graphs.append((weakref.ref(graph), set()))
        return self._graphs[-1][1]
