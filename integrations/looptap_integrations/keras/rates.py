"""Learning rates: of every optimizer of the model that is being trained, at each step where it is another one than before.

- A number is a variable of Keras, which callbacks and programs assign to. It is read when a fit begins, and watched from then on:
  PyTorch counts what is done to a tensor, elsewhere the call is seen.
- A schedule is asked by the optimizer at every step. What runs eagerly (PyTorch; TensorFlow with ``run_eagerly``) shows the answer.
  In a graph of TensorFlow a ring beside the program's operations keeps it. What JAX has compiled shows nothing: there a schedule of
  Keras is asked once more, beside the training, for the steps that were made. That may differ in the last digit of float32.
"""

from __future__ import annotations

import importlib
import threading
import weakref
from collections.abc import Callable
from functools import partial
from operator import not_
from typing import Any, Protocol

import numpy

from looptap.events import Context
from looptap.integration import Capture
from looptap.patching import Patcher
from looptap.recorder import Recorder
from looptap_integrations.keras.fits import Fit
from looptap_integrations.keras.optimizers import iterations, optimizers_of

CAPTURES = (
    Capture(
        "lr of every optimizer when it changes, also by a schedule, a callback or the program",
        "Variable.assign, Optimizer._get_current_learning_rate",
        "each step",
        "on JAX, schedules are computed once more in the background",
    ),
)
NAME = "lr"
#: JAX is asked that often, in seconds, and for so many steps at once.
_SECONDS, _AT_ONCE = 1.0, 256


class RatesOfFit(Protocol):
    """What a fit that leads tells of its steps, and what is asked when a callback may have set a rate."""

    @property
    def assigned(self) -> object:
        """Another value when a rate was set."""

    def begin(self, fit: Fit) -> None: ...
    def end_step(self, done: int, count: int) -> None: ...
    def settle(self, done: int) -> None: ...
    def end(self) -> None: ...
    def set_last(self) -> list[tuple[float, Context | None]]: ...


class Rate:
    """Of one optimizer in one fit."""

    __slots__ = (
        "before",
        "compute",
        "computed",
        "context",
        "first",
        "given",
        "last",
        "made",
        "news",
        "optimizer",
        "read",
        "ring",
        "tensor",
        "version",
    )

    def __init__(self, optimizer: Any, first: int, context: Context | None) -> None:
        self.optimizer = optimizer
        #: The number of the fit's first step.
        self.first = first
        self.context = context
        #: What the optimizer was given: a variable, a schedule, a function.
        self.given: Any = None
        #: What was recorded last.
        self.last: float | None = None
        #: What has been set or answered since: a number, or a value that has one.
        self.news: Any = None
        #: On PyTorch, of what it was given: the tensor, and how often that had been written to when it was read last.
        self.tensor: Any = None
        self.version = 0
        #: Where graphs of TensorFlow keep what the schedule has answered, and in how many of the fit's steps that was read.
        self.ring: Any = None
        self.read = 0
        #: Steps of the fit, and on JAX: those of the optimizer before it, and those of the fit whose rate has been computed.
        self.made = self.before = self.computed = 0
        self.compute: Callable[[int], list[float]] | None = None


class Rates:
    """Those of the fit that leads."""

    def __init__(self, record: Recorder, backend: str) -> None:
        self._record = record
        self._backend = backend
        self._rates: list[Rate] = []
        #: On JAX: of fits that are over, until they are computed. By whom is one at a time.
        self._left: list[Rate] = []
        self._computing = threading.Lock()
        #: By the id of a variable, and by that of an optimizer that has a schedule.
        self._watched: dict[int, Rate] = {}
        self._scheduled: dict[int, Rate] = {}
        #: Graphs in which a rate is kept already.
        self._graphs: weakref.WeakSet[Any] = weakref.WeakSet()
        self._rings: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self._is_symbolic: Callable[[Any], bool] = lambda value: False
        self._is_eager = False
        self._fit: Fit | None = None
        #: How often a rate was set, where the call is seen.
        self._assigned = 0

    def install(self, patch: Patcher) -> None:
        if self._backend == "tensorflow":
            self._is_symbolic = importlib.import_module("tensorflow").is_symbolic_tensor
        elif self._backend == "jax":
            tracer = importlib.import_module("jax").core.Tracer
            self._is_symbolic = lambda value: isinstance(value, tracer)
            patch.hook(self._record.every, self.compute, _SECONDS)
        variables = importlib.import_module("keras.src.backend.common.variables")
        variable = getattr(variables, "Variable", None) or variables.KerasVariable
        if self._backend != "torch":
            patch.tap(variable, "assign", self.on_assign, None)
        base = importlib.import_module("keras.src.optimizers.base_optimizer").BaseOptimizer
        has_none = partial(not_, self._scheduled)
        patch.tap(base, "_get_current_learning_rate", self.before_rate, self.after_rate, unless=has_none)

    # --- the fit ----------------------------------------------------------------------------------------------------

    def begin(self, fit: Fit) -> None:
        """This fit leads from here on."""
        self._fit, model, first = fit, fit.model, fit.first
        self._forget()
        # Where steps are compiled, somebody else is asking: a callback, say.
        is_run_eagerly = bool(getattr(model, "run_eagerly", False))
        self._is_eager = self._backend == "torch" or (self._backend == "tensorflow" and is_run_eagerly)
        for label, outer in optimizers_of(model):
            optimizer = getattr(outer, "inner_optimizer", None) or outer
            rate = Rate(optimizer, first, None if label == "optimizer" else {"optimizer": label})
            self._rates.append(rate)
            self._watch(rate)

    def end_step(self, done: int, count: int) -> None:
        """The fit has made so many steps, of them so many just now."""
        for rate in self._rates:
            if rate.optimizer._learning_rate is not rate.given:
                self._watch(rate)
            elif rate.tensor is not None and rate.tensor._version != rate.version:
                _look(rate)
            rate.made = done
            if rate.news is not None and (value := self._number(rate, done - count)) is not None:
                rate.news = None
                self._emit(rate, done - count, value)

    def settle(self, done: int) -> None:
        """What the device was given in so many steps of the fit, it has done."""
        for rate in self._rates:
            ring = rate.ring
            if ring is None:
                continue
            values = ring.read()
            if len(values) != done - rate.read or ring.lost:
                rate.ring = None
                self._scheduled.pop(id(rate.optimizer), None)
                self._record.note("keras", "lr is left out: not every step asks the schedule once")
                continue
            for step, value in enumerate(values, rate.read):
                self._emit(rate, step, value)
            rate.read = done

    def end(self) -> None:
        """The fit is over."""
        rates = self._rates
        self._left += [rate for rate in rates if rate.compute is not None]
        if self._backend == "tensorflow" and any(
            rate.made and rate.last is None and id(rate.optimizer) in self._scheduled for rate in rates
        ):
            self._record.note("keras", "no lr: the model was compiled before autolog()")
        self._forget()
        self._fit = None

    def compute(self) -> None:
        """On JAX: the schedules' rates of the steps since the last time. In the background, and when the run ends."""
        with self._computing:
            left, self._left = self._left, []
            self._compute([*left, *self._rates])

    def _compute(self, rates: list[Rate]) -> None:
        for rate in rates:
            while rate.compute is not None and rate.computed < rate.made:
                count = min(_AT_ONCE, rate.made - rate.computed)
                try:
                    values = rate.compute(rate.before + rate.computed)[:count]
                except Exception as error:  # noqa: BLE001 - a schedule of the program, which wants one step at a time
                    rate.compute = None
                    self._record.note("keras", f"lr is left out: the schedule cannot be asked for many steps ({error})")
                    break
                first, rate.computed = rate.computed, rate.computed + count
                for step, value in enumerate(values, first):
                    self._emit(rate, step, value)

    # --- what is seen -----------------------------------------------------------------------------------------------

    def on_assign(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rate = self._watched.get(id(args[0]))
        if rate is not None:
            value = args[1] if len(args) > 1 else kwargs.get("value")
            if not self._is_symbolic(value) and self._is_known(value):
                rate.news = self._kept(value)
                self._assigned += 1

    @property
    def assigned(self) -> object:
        """Another value when a rate was set."""
        return self._assigned, [rate.tensor._version for rate in self._rates if rate.tensor is not None]

    def set_last(self) -> list[tuple[float, Context | None]]:
        """What the program or a callback has just set, as far as it is here."""
        found = []
        for rate in self._rates:
            if rate.tensor is not None and rate.tensor._version != rate.version:
                _look(rate)
            if rate.news is not None and (value := self._number(rate, rate.made)) is not None:
                found.append((value, rate.context))
        return found

    def before_rate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rate | None:
        """What the schedule answers in a step is its rate."""
        return self._scheduled.get(id(args[0])) if self._fit is not None and self._fit.is_in_step else None

    def after_rate(self, rate: Rate, value: Any) -> None:
        if value is None:
            return
        if not self._is_symbolic(value):
            if self._is_eager and self._is_known(value):
                rate.news = self._kept(value)
        elif self._backend == "tensorflow" and value.graph not in self._graphs:
            self._graphs.add(value.graph)
            if rate.ring is None:
                ring = self._rings.get(rate.optimizer)
                if ring is None:
                    rings = importlib.import_module("looptap_integrations.rings")
                    ring = self._rings[rate.optimizer] = rings.Ring()
                rate.ring = ring
            rate.ring.write(value)

    # --- private ----------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._rates = []
        self._watched.clear()
        self._scheduled.clear()

    def _watch(self, rate: Rate) -> None:
        optimizer = rate.optimizer
        self._watched.pop(id(rate.given), None)
        self._scheduled.pop(id(optimizer), None)
        rate.tensor = None
        given = rate.given = getattr(optimizer, "_learning_rate", None)
        if given is None:
            return
        if not callable(given):
            self._watched[id(given)] = rate
            if self._backend == "torch":
                rate.tensor = given.value
                _look(rate)
                return
            value = given.value if hasattr(given, "value") else given
            # On TensorFlow this reads a device that has nothing to do yet.
            if self._backend == "tensorflow" or _is_here(value):
                rate.news = self._kept(value)
            return
        self._scheduled[id(optimizer)] = rate
        rate.ring = self._rings.get(optimizer)
        if rate.ring is not None:
            rate.ring.read()  # of fits before this one
            rate.ring.lost = 0
        if self._backend == "jax":
            if type(given).__module__.partition(".")[0] == "keras":
                rate.before = iterations(optimizer)
                rate.computed = rate.made
                rate.compute = _many_at_once(given)
            else:
                # It may do more than answer, and is not asked more often than without us.
                self._record.note("keras", "lr is left out: on JAX, only schedules of Keras itself are known")

    def _is_known(self, value: Any) -> bool:
        """Whether its number is to be had without waiting, or will be."""
        if self._backend == "torch" or _is_here(value):
            return True
        if self._backend == "tensorflow":
            self._record.note("keras", "lr is left out where it is a value on a device")
        return False

    def _kept(self, value: Any) -> Any:
        # JAX gives the place of an array away to the next step, and with it the number.
        return value if self._backend == "torch" else float(value)

    def _number(self, rate: Rate, step: int) -> float | None:
        """The number in the news, as the optimizer has it; None if that is still to come, from whoever waits for the device."""
        value = rate.news
        if isinstance(value, (int, float, numpy.number)):
            return _rounded(float(value), rate.given)
        if value.is_cpu:
            return float(value.detach())
        rate.news = None
        at, context = rate.first + step, rate.context
        self._record.take_from_device({NAME: value.detach()}, lambda found: self._record.metrics(found, at, context))
        return None

    def _emit(self, rate: Rate, step: int, value: float) -> None:
        if value != rate.last:
            rate.last = value
            self._record.metrics({NAME: value}, rate.first + step, rate.context)


def _look(rate: Rate) -> None:
    """On PyTorch: what it was given has been written to."""
    rate.version = rate.tensor._version
    rate.news = rate.tensor


def _is_here(value: Any) -> bool:
    """False for what lies on a device of TensorFlow, and for an array of JAX that is still being computed: that is what a step
    hands on, not what somebody has set."""
    if hasattr(value, "is_ready"):
        return bool(value.is_ready())
    device = getattr(value, "device", "")
    return not isinstance(device, str) or not device or "cpu" in device.lower()


def _rounded(value: float, variable: Any) -> float:
    dtype = getattr(variable, "dtype", None)
    return float(numpy.dtype(dtype).type(value)) if dtype in ("float16", "float32", "float64") else value


def _many_at_once(schedule: Any) -> Callable[[int], list[float]]:
    """The schedule's answers for many steps from a given one on, computed on the CPU."""
    jax = importlib.import_module("jax")
    function = jax.jit(jax.vmap(lambda step: jax.numpy.asarray(schedule(step))))
    cpu = jax.local_devices(backend="cpu")[0]

    def compute(first: int) -> list[float]:
        with jax.default_device(cpu):
            steps = numpy.arange(first, first + _AT_ONCE, dtype="int32")
            return [float(value) for value in numpy.asarray(function(steps))]

    return compute
