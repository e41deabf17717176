"""The training loop: which loss belongs to which step, told by what happens in the program, or has happened in a graph.

Outside of graphs each event is taken as it happens. In a graph it is written into a ring, and taken when somebody looks: some ten
times a second, before anything happens outside, and at the end. What a step is, is in :mod:`looptap.rounds`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from looptap.integration import Capture
from looptap.places import Place, are_two_phases
from looptap.recorder import Recorder
from looptap.rounds import Rounds
from looptap_integrations.rings import Ring
from looptap_integrations.tensorflow.facts import Facts
from looptap_integrations.tensorflow.graphs import Graphs
from looptap_integrations.tensorflow.optimizers import Known, Optimizers
from looptap_integrations.tensorflow.sites import Site, Sites

SECONDS_BETWEEN_LOOKS = 0.1
#: The source of what is told to TensorBoard.
SUMMARIES = "tensorboard"
CAPTURES = (
    Capture(
        "the loss of every optimizer step, by its variable name, in the program and in its graphs",
        "GradientTape.gradient; in a graph, operations beside it, which XLA compiles too",
        "each step",
    ),
    Capture(
        "lr when it changes, also by a schedule", "Optimizer.apply of Keras, apply_gradients of tf-keras", "each step"
    ),
    Capture("step_time", "the same, where the step is not in a graph", "each step"),
    Capture("each replica's loss (context replica), and their sum", "tf.distribute.MirroredStrategy", "each step"),
    Capture("settings of optimizers, seed, determinism, strategy", "the objects, at the first step", "once a run"),
)
NOT_CAPTURED = (
    "validation losses, epochs and keras.metrics of a loop of the program's own: looptap.log_metric records them",
    "functions that were traced before autolog(): TensorFlow does not come back to the program's code for them",
    "a loss of several elements: its gradients are those of the sum, which the program does not compute",
    "step_time inside of a graph, and the time of single steps there: a point has the time at which it was read",
    "in a graph more than 32,768 steps between two looks of a tenth of a second, or in one launch of XLA",
    "losses in graphs of TPUStrategy, MultiWorkerMirroredStrategy and ParameterServerStrategy, in tf.vectorized_map, in graphs of"
    " TensorFlow 1, and in functions that XLA compiles for a device other than the first",
)
#: Events between two times that another thread may have the interpreter: some tens of microseconds.
_AT_ONCE = 16
_BEHIND = (
    "a graph made more steps in one go than could be kept; their number is unknown, and what followed is not recorded"
)


class Loss(NamedTuple):
    """A loss was differentiated."""

    site: Site
    #: None where there is only one.
    replica: int | None


class At(NamedTuple):
    """The step of the scalar that follows, in the program's own count."""


class Scalar(NamedTuple):
    """A value that the program hands to TensorBoard."""

    tag: str


class Rate(NamedTuple):
    """The learning rate that an optimizer is about to use, known only here, in a branch of the graph."""

    #: By its id.
    optimizer: int


class Step(NamedTuple):
    """An optimizer has stepped; the value of the event is its learning rate, NaN where that is unknown."""

    optimizer: Known
    place: Place
    #: Whether it added up the gradients of the replicas.
    is_sum: bool


Event: TypeAlias = "Loss | Rate | Step | At | Scalar"


class Loop:
    def __init__(self, record: Recorder, graphs: Graphs) -> None:
        self.record = record
        self.graphs = graphs
        self.rounds: Rounds[float] = Rounds()
        self.optimizers = Optimizers()
        self.facts = Facts(record)
        self.completed = 0
        self._lock = threading.RLock()
        #: The recorder's generation that this state belongs to.
        self._generation = -1
        self._trainings = record.trainings
        self._is_behind = False
        #: Losses of replicas since the last step, by name and replica.
        self._of_replicas: dict[tuple[str, int], float] = {}
        #: Of steps under way, by the optimizer's id.
        self._rates: dict[int, float] = {}
        #: Of the scalar that comes next.
        self._at = 0
        #: When the last step ended that was seen as it happened.
        self._ended: float | None = None
        self._has_devices: bool | None = None
        #: Who was asked about steps before us; None as long as we do not lead.
        self._before: tuple[Callable[[], None], Callable[[], bool], Callable[[int], Mapping[str, float]]] | None = None
        if graphs.rings:
            self.forget()
            self._lead()

    def begins(self, sites: Sites, frame: FrameType) -> None:
        """The program trains, where it stands at this frame."""
        self._begin()
        if self.facts.is_due:
            self.facts.program(sites.program_frames(frame))

    def needs_place(self, known: Known) -> bool:
        """Whether it matters where this optimizer steps now: there are others."""
        return self.rounds.last is not known or not tf.executing_eagerly()

    def happened(self, event: Event, value: Any) -> None:
        """Here, where the program runs or a graph is being built. ``value`` is a tensor or a number."""
        if not tf.executing_eagerly():
            refusal = self.graphs.refusal()
            if refusal is not None:
                self.record.note("tensorflow", refusal)
                return
            self._begin()
            self.graphs.write(event, value)
        elif self._waits_for(value):
            self._begin()
            self.graphs.write(event, value)
        else:
            number = float(value)
            self.look()
            with self._lock:
                self._begin()
                self._take(event, number, time.perf_counter())

    def scalar(self, tag: str, step: Any, value: Any) -> None:
        """The program tells TensorBoard a value, at a step in its own count."""
        with self._lock:  # the two are one event
            self.happened(At(), step)
            self.happened(Scalar(tag), value)

    def look(self) -> None:
        """Take what has happened in graphs since somebody looked."""
        for ring in list(self.graphs.rings.values()):
            with self._lock:
                self._take_all(ring)

    def settle(self) -> bool:
        """Count the steps that have been made; False where that would wait for a device."""
        if self._has_device():
            return False
        self.look()
        return True

    def forget(self) -> None:
        """What happened in graphs until now is none of ours."""
        for ring in self.graphs.rings.values():
            ring.entries()

    def leave(self) -> None:
        """Nobody watches any more."""
        if self._before is not None:
            record = self.record
            record.catch_up, record.is_step_under_way, record.known_at = self._before

    def finish(self) -> None:
        """The run ends."""
        self.look()
        rounds = self.rounds
        if not rounds.pending or self._generation != self.record.generation:
            return
        if self.record.step < 0 and not self.optimizers.any():
            # One loss only, and never an optimizer.
            values, _ = rounds.take()
            self._write(values, 0)
        else:
            _, sites = rounds.take()
            names = ", ".join(sorted({site.name for site in sites if isinstance(site, Site)}))
            self.record.note("tensorflow", f"no optimizer step followed the last {names}")
        self._of_replicas.clear()

    def known_at(self, step: int) -> dict[str, float]:
        """What is on record of the last step."""
        is_it = step == self.rounds.step and self.record.generation == self._generation
        return dict(self.rounds.names) if is_it else {}

    def is_step_under_way(self) -> bool:
        """A loss waits for its step."""
        if not self._has_devices:
            self.look()
        return bool(self.rounds.pending)

    # --- private ------------------------------------------------------------------------------------------------------

    def _waits_for(self, value: Any) -> bool:
        """Whether reading it now would wait for a device, or for what such a one computes."""
        return self._has_device() and (
            bool(self.graphs.rings) or not getattr(value, "device", "CPU:0").endswith("CPU:0")
        )

    def _has_device(self) -> bool:
        if self._has_devices is None:
            self._has_devices = any(device.device_type != "CPU" for device in tf.config.list_logical_devices())
        return self._has_devices

    def _begin(self) -> None:
        """Training has shown itself."""
        self.record.begin()
        if self.record.generation != self._generation:
            self._new_run()

    def _new_run(self) -> None:
        self._generation = self.record.generation
        self.rounds.restart()
        self.optimizers.restart()
        self.facts.restart()
        self._is_behind = False
        self._ended = None
        self._lead()

    def _lead(self) -> None:
        """From now on it is us who know of the steps, beside whoever did before: a program may have two frameworks."""
        if self._before is None:
            record = self.record
            catch_up, is_under_way, known_at = self._before = (
                record.catch_up,
                record.is_step_under_way,
                record.known_at,
            )

            def look() -> None:
                self.look()
                catch_up()

            record.catch_up = look
            record.is_step_under_way = lambda: self.is_step_under_way() or is_under_way()
            record.known_at = lambda step: self.known_at(step) or known_at(step)

    def _take_all(self, ring: Ring) -> None:
        is_new, lost = self.record.generation != self._generation, ring.lost
        entries = ring.entries()
        if not entries or (is_new and ring.lost != lost):
            return  # between two runs nobody looks, and what happens there for long is of neither
        self._begin()
        self.facts.program()
        if ring.lost != lost and not self._is_behind:
            self._is_behind = True
            self.record.note("tensorflow", _BEHIND)
        if self._is_behind:
            self.record.drop("graph_behind", len(entries) + ring.lost - lost)
            return
        marks = self.graphs.marks
        for index, (mark, value) in enumerate(entries):
            self._take(marks[mark], value, None)
            if index % _AT_ONCE == _AT_ONCE - 1:
                time.sleep(0)  # the training thread may be waiting for the interpreter

    def _take(self, event: Event, value: float, now: float | None) -> None:
        if isinstance(event, Loss):
            self._backward(event, value, now)
        elif isinstance(event, Step):
            self._step(event, value, now)
        elif isinstance(event, Rate):
            self._rates[event.optimizer] = value
        elif isinstance(event, At):
            self._at = int(value)
        else:
            self.record.log_metrics({event.tag: value}, step=self._at, source=SUMMARIES)

    def _backward(self, event: Loss, value: float, now: float | None) -> None:
        site, rounds = event.site, self.rounds
        count = self.optimizers.count
        if site.checked != count and (not site.is_trained or (site in rounds.counts and event.replica in (None, 0))):
            # A second time without a step in between: accumulation, or no optimizer has to do with it.
            site.is_trained = self.optimizers.train(site.sources)
            site.checked = count
        if not site.is_trained:
            self._without_optimizer(event, value, now)
            return
        rounds.backward(site, site.name, value)
        if event.replica is not None:
            key = (site.name, event.replica)
            self._of_replicas[key] = self._of_replicas.get(key, 0.0) + value

    def _step(self, event: Step, rate: float, now: float | None) -> None:
        known, record, rounds = event.optimizer, self.record, self.rounds
        if record.trainings != self._trainings:  # a framework on top says where the steps are
            self._trainings = record.trainings
            rounds.move(record.step)
        if self.optimizers.meets(known):
            self.facts.optimizer(known)
        before = rounds.last
        is_new_phase = (
            rounds.may_join(known) and isinstance(before, Known) and are_two_phases(before.place, event.place)
        )
        known.place = event.place
        rate = self._rates.pop(known.key, rate)
        values, apart = rounds.complete(known, known.context is None, is_new_phase)
        step = rounds.step
        own = values if known.context is None else {}
        if self._of_replicas:
            self._write_replicas(values, event.is_sum)
        if now is not None and self._ended is not None:
            own["step_time"] = now - self._ended
        self._ended = now
        if not math.isnan(rate) and rate != known.rate and not record.covers("lr"):
            own["lr"] = known.rate = rate
        self._write(values, step)
        if own is not values and own:
            record.metrics(own, step, known.context)
        if apart:
            record.metrics(apart, step, known.context or {"optimizer": known.kind})
        record.step = step
        self.completed += 1

    def _write(self, values: dict[str, float], step: int) -> None:
        if values:
            self.record.metrics(values, step)

    def _write_replicas(self, values: dict[str, float], is_sum: bool) -> None:
        """Each replica's own losses; their sum stays in the values of the step where that is what the optimizer descends."""
        for (name, replica), value in self._of_replicas.items():
            self.record.metrics({name: value}, self.rounds.step, {"replica": str(replica)})
            if not is_sum:
                values.pop(name, None)
        self._of_replicas.clear()

    def _without_optimizer(self, event: Loss, value: float, now: float | None) -> None:
        """A loss that no optimizer descends: the step is its own."""
        site, rounds = event.site, self.rounds
        if rounds.pending:
            # What came before this was known.
            values, sites = rounds.take()
            for earlier in sites:
                rounds.backward_is_step(earlier)
            self._write_replicas(values, is_sum=False)
            self._write(values, rounds.step)
        before = rounds.step
        # Of the replicas that compute together, the first begins the step.
        step = before if event.replica else rounds.backward_is_step(site)
        values = {site.name: value}
        if step != before:
            if now is not None and self._ended is not None:
                values["step_time"] = now - self._ended
            self._ended = now
        if event.replica is None:
            self._write(values, step)
        else:
            self.record.metrics(values, step, {"replica": str(event.replica)})
        self.record.step = step
