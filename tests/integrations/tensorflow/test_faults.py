"""What goes wrong in a loop is the program's own, and costs the record nothing but the step it happens in."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy
import pytest
import tensorflow as tf

from integrations.recording import Recording, recorded
from integrations.tensorflow.loops import Line, data, in_all_modes, in_graphs, number, numbered, settled
from looptap_integrations.tensorflow import TensorFlowIntegration, graphs
from looptap_integrations.tensorflow.graphs import GRAPHS

Compiled = Callable[[Callable[..., Any]], Callable[..., Any]]


def trainer(compiled: Compiled, rate: float = 0.05) -> tuple[Callable[..., Any], Line]:
    """A step on inputs and targets, which returns its loss."""
    model, optimizer = Line(), keras.optimizers.SGD(rate)

    def step(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return compiled(step), model


@in_all_modes
def test_not_finite(record: Recording, compiled: Compiled) -> None:
    """NaN and infinities are values like others."""
    step, _ = trainer(compiled, rate=1e30)
    inputs, targets = data()
    truth = [number(step(inputs, targets)) for _ in range(4)]
    assert math.isinf(truth[1])
    assert math.isnan(truth[-1])
    assert numpy.array_equal(settled(record).values("loss"), truth, equal_nan=True)


@in_all_modes
def test_a_loss_of_several_elements(record: Recording, compiled: Compiled) -> None:
    """It is left out, with a note; the steps go on."""
    model, optimizer = Line(), keras.optimizers.SGD(0.05)
    inputs, targets = data()

    def step() -> None:
        with tf.GradientTape() as tape:
            losses = tf.square(model(inputs) - targets)
        optimizer.apply(tape.gradient(losses, model.trainable_variables), model.trainable_variables)

    step = compiled(step)
    for _ in range(3):
        step()
    settled(record)
    assert record.values("losses") == []
    assert record.step == 2
    assert set(record.notes) == {
        "a loss of several elements is left out: losses has the shape (12, 1). Gradients of it are those of its sum"
    }


def test_exceptions(record: Recording) -> None:
    """In the tape's block, in the gradient, in the step: what did not get to its end is no step."""
    model, optimizer = Line(), keras.optimizers.SGD(0.05)
    inputs, targets = data()
    truth = []
    for attempt in range(6):
        try:
            with tf.GradientTape() as tape:
                loss = model.error(inputs, targets)
                if attempt == 1:
                    raise RuntimeError("in the block")
            sources = [None] if attempt == 2 else model.trainable_variables
            gradients = tape.gradient(loss, sources)
            optimizer.apply([None, None] if attempt == 3 else gradients, model.trainable_variables)
        except (RuntimeError, TypeError, ValueError):
            assert attempt in (1, 2, 3)
        else:
            truth.append(number(loss))
    # The gradient of the fourth attempt was taken, and no step came of it: it is the program's to say what becomes of that.
    assert [step for step, _ in record.series("loss")] == [0, 1, 2]
    assert record.values("loss")[0] == truth[0]
    assert record.values("loss")[2] == truth[2]
    assert record.step == 2


def test_errors_are_the_programs(record: Recording) -> None:
    """Its mistakes give its errors."""
    with tf.GradientTape() as tape:
        value = tf.Variable(1.0) * 2
    with pytest.raises(TypeError):
        tape.gradient()
    with pytest.raises(ValueError, match="Unknown"):
        tape.gradient(value, [], unconnected_gradients="odd")
    assert record.points == []


@in_graphs
def test_an_error_in_a_graph(record: Recording, compiled: Compiled) -> None:
    """A call that fails half way has written what it had computed before."""
    model, optimizer = Line(), keras.optimizers.SGD(0.05)
    inputs, targets = data()

    @tf.function
    def step(fails: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets)
        gradients = tape.gradient(loss, model.trainable_variables)
        with tf.control_dependencies([tf.debugging.assert_equal(fails, False)]):
            optimizer.apply([tf.identity(gradient) for gradient in gradients], model.trainable_variables)
        return loss

    first = number(step(tf.constant(False)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        step(tf.constant(True))
    second = number(step(tf.constant(False)))
    series = settled(record).series("loss")
    assert series[0] == (0, first)
    assert series[1][1] in (second, second + second)
    assert record.step == 1


@in_graphs
def test_retracing(record: Recording, compiled: Compiled) -> None:
    """Every shape is a graph of its own; the loss has one name and one series, and no graph leaves more behind than it has."""
    step, _ = trainer(compiled)
    before = len(GRAPHS.marks)
    truth = [number(step(*data(count))) for count in (4, 5, 6, 4, 7, 5, 8)]
    assert settled(record).series("loss") == numbered(truth)
    assert len(GRAPHS.marks) == before + 2


@in_all_modes
def test_the_programs_objects(compiled: Compiled) -> None:
    """After the end everything is what it was, and what was traced meanwhile works as before; when watching begins again,
    that is seen again, and what happened in between is nobody's."""
    before = [tf.GradientTape.gradient, *methods()]
    with recorded(TensorFlowIntegration) as record:
        assert tf.GradientTape.gradient is not before[0]
        step, _ = trainer(compiled)
        inputs, targets = data()
        truth = [number(step(inputs, targets)) for _ in range(2)]
        assert settled(record).values("loss") == truth
    assert all(one is other for one, other in zip([tf.GradientTape.gradient, *methods()], before, strict=True))
    later = [number(step(inputs, targets)) for _ in range(3)]
    assert later[0] < truth[-1]
    assert record.values("loss") == truth
    with recorded(TensorFlowIntegration) as record:
        again = [number(step(inputs, targets)) for _ in range(2)]
        assert settled(record).series("loss") == numbered(again)


def methods() -> list[Any]:
    base = keras.optimizers.Optimizer.__mro__
    found = [
        vars(kind)[name]
        for name in ("apply", "__init__", "_backend_update_step", "scale_loss")
        for kind in base
        if name in vars(kind)
    ]
    scaled = vars(keras.optimizers.LossScaleOptimizer)
    return [*found, scaled["apply"], scaled["scale_loss"], tf.compat.v1.train.Optimizer.apply_gradients]


@in_all_modes
def test_runs_follow_each_other(record: Recording, compiled: Compiled) -> None:
    """A function that was traced in one run goes on in the next, whose steps count from 0 and which has all settings again."""
    step, _ = trainer(compiled)
    inputs, targets = data()
    first = [number(step(inputs, targets)) for _ in range(3)]
    assert settled(record).series("loss") == numbered(first)
    settings = record.params_by_key()
    record.points.clear()
    record.written.clear()
    record.new_run()
    second = [number(step(inputs, targets)) for _ in range(3)]
    assert settled(record).series("loss") == numbered(second)
    assert record.values("lr") == [pytest.approx(0.05)]
    assert record.params_by_key() == settings


def in_a_small_ring(monkeypatch: pytest.MonkeyPatch, program: Callable[[], None]) -> None:
    """In a thread of its own, which has a ring of its own."""
    monkeypatch.setattr(graphs, "_CAPACITY", 64)
    thread = threading.Thread(target=program)
    thread.start()
    thread.join()


def epochs(step: Callable[..., Any]) -> Callable[[int], Any]:
    """The step so many times in one call."""
    inputs, targets = data()

    @tf.function
    def epoch(count: tf.Tensor) -> None:
        for _ in tf.range(count):
            step(inputs, targets)

    return lambda count: epoch(tf.constant(count))


@in_graphs
def test_more_than_is_kept(record: Recording, compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a graph made more steps than anybody could look at, their number is unknown: nothing is recorded from there on, what
    was lost is counted, and it is said why."""
    drops: list[int] = []
    monkeypatch.setattr(record, "drop", lambda reason, count=1: drops.append(count))

    def program() -> None:
        step, _ = trainer(compiled)
        epoch = epochs(step)
        for count in (20, 100, 10):
            epoch(count)
            settled(record)

    in_a_small_ring(monkeypatch, program)
    assert [step for step, _ in record.series("loss")] == list(range(20))
    assert sum(drops) == 2 * (100 + 10)
    assert [note for note in record.notes if "more steps in one go" in note] != []


def test_more_than_is_kept_between_two_runs(record: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody could look at because there was no run is no loss to the next one."""

    def program() -> None:
        step, _ = trainer(tf.function)
        epoch = epochs(step)
        epoch(3)
        settled(record)
        record.new_run()
        record.points.clear()
        epoch(100)
        settled(record)
        epoch(5)
        settled(record)

    in_a_small_ring(monkeypatch, program)
    assert [step for step, _ in record.series("loss")] == list(range(5))
    assert record.notes == []


@in_all_modes
def test_suppressed(record: Recording, compiled: Compiled) -> None:
    """What is traced or run inside of it is not seen."""
    inputs, targets = data()
    with record.suppress():
        step, _ = trainer(compiled)
        step(inputs, targets)
    assert settled(record).points == []
    assert record.written == []


@in_all_modes
def test_threads(record: Recording, compiled: Compiled) -> None:
    """Two trainings at once: nothing is lost, and no loss is another than it was."""
    inputs, targets = data()
    truth: list[float] = []

    def train() -> None:
        step, _ = trainer(compiled)
        truth.extend([number(step(inputs, targets)) for _ in range(20)])

    threads = [threading.Thread(target=train) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settled(record)
    values = [value for key, _, value, _ in record.points if key == "loss"]
    # Losses of two trainings may meet in one step, as with any two optimizers.
    assert sum(values) == pytest.approx(sum(truth))
    assert record.step >= 19
