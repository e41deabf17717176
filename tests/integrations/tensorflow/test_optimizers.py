"""Optimizers of every make: what counts as a step, and where their learning rate is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy
import pytest
import tensorflow as tf
import tf_keras

from integrations.recording import Recording
from integrations.tensorflow.loops import Line, data, in_all_modes, number, numbered, settled

Compiled = Callable[[Callable[..., Any]], Callable[..., Any]]
HALVED = [float(numpy.float32(0.1 * 0.5**step)) for step in range(4)]


def halving(library: Any) -> Any:
    return library.optimizers.schedules.ExponentialDecay(0.1, decay_steps=1, decay_rate=0.5)


@pytest.mark.parametrize(
    ("make", "rates"),
    [
        (lambda: tf_keras.optimizers.SGD(halving(tf_keras)), HALVED),
        (lambda: tf_keras.optimizers.Adam(0.1), HALVED[:1]),
        (lambda: tf_keras.optimizers.legacy.SGD(0.1), HALVED[:1]),
        (lambda: tf_keras.optimizers.legacy.SGD(halving(tf_keras)), []),
        (lambda: tf.compat.v1.train.GradientDescentOptimizer(0.1), [0.1]),
        (lambda: keras.optimizers.SGD(halving(keras), gradient_accumulation_steps=2), HALVED[1::2]),
    ],
    ids=["tf_keras", "adam", "legacy", "legacy-schedule", "v1", "accumulating"],
)
@in_all_modes
def test_makes(record: Recording, compiled: Compiled, make: Callable[[], Any], rates: list[float]) -> None:
    """Each call of ``apply_gradients`` is one step, however many optimizers it has inside, and with zips as arguments."""
    model, (inputs, targets) = Line(), data()
    optimizer = make()
    if hasattr(optimizer, "build"):
        optimizer.build(model.trainable_variables)

    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    step = compiled(step)
    truth = [number(step()) for _ in range(4)]
    assert len(set(truth)) > 1
    settled(record)
    assert record.series("loss") == numbered(truth)
    assert record.values("lr") == pytest.approx(rates)
    assert record.names() - {"step_time"} <= {"loss", "lr"}
    assert record.params_by_key()["optimizer.class"] == f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"


@pytest.mark.parametrize("kind", [tf_keras.optimizers.SGD, tf_keras.optimizers.legacy.SGD], ids=["new", "legacy"])
@in_all_modes
def test_mixed_precision_of_tf_keras(record: Recording, compiled: Compiled, kind: Any) -> None:
    """The loss before it was scaled; the optimizer inside of another one is not a second one."""
    model, (inputs, targets) = Line(), data()
    optimizer = tf_keras.mixed_precision.LossScaleOptimizer(kind(0.1))

    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            error = model.error(inputs, targets)
            scaled = optimizer.get_scaled_loss(error)
        gradients = optimizer.get_unscaled_gradients(tape.gradient(scaled, model.trainable_variables))
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return error

    if hasattr(optimizer, "build"):
        optimizer.build(model.trainable_variables)
    step = compiled(step)
    truth = [number(step()) for _ in range(3)]
    settled(record)
    assert record.series("error") == numbered(truth)
    assert record.values("lr") == [pytest.approx(0.1)]


def test_minimize(record: Recording) -> None:
    """tf-keras asks a tape for the program; the name is its own."""
    model, (inputs, targets) = Line(), data()
    optimizer, truth = tf_keras.optimizers.SGD(0.1), []
    for _ in range(3):
        truth.append(number(model.error(inputs, targets)))
        optimizer.minimize(lambda: model.error(inputs, targets), model.trainable_variables)
    assert record.series("loss") == numbered(truth)


class Patient(keras.optimizers.SGD):
    """A program's own optimizer, which does something before it steps."""

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        self.calls = getattr(self, "calls", 0) + 1
        super().apply(grads, trainable_variables)


@in_all_modes
def test_a_subclass_that_calls_its_base(record: Recording, compiled: Compiled) -> None:
    model, (inputs, targets) = Line(), data()
    optimizer = Patient(0.1)

    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    step = compiled(step)
    truth = [number(step()) for _ in range(3)]
    assert settled(record).series("loss") == numbered(truth)
    assert optimizer.calls == 3 if compiled.__name__ == "<lambda>" else optimizer.calls < 3


@in_all_modes
def test_the_rate_that_the_program_sets(record: Recording, compiled: Compiled) -> None:
    """By assignment, between steps: written when it changes."""
    model, (inputs, targets) = Line(), data()
    optimizer = keras.optimizers.SGD(0.5)

    def step() -> None:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    step = compiled(step)
    for rate in (0.5, 0.5, 0.25, 0.25, 0.5):
        optimizer.learning_rate = rate
        step()
    assert settled(record).series("lr") == [(0, 0.5), (2, 0.25), (4, 0.5)]


def test_several_phases(record: Recording) -> None:
    """One loop after the other, each with its optimizer: the second one's steps follow those of the first."""
    model, (inputs, targets) = Line(), data()
    rough, fine = keras.optimizers.SGD(0.1), keras.optimizers.Adam(0.01)

    @tf.function
    def roughly() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets)
        rough.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    @tf.function
    def finely() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets)
        fine.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    truth = []
    for _ in range(3):
        truth.append(number(roughly()))
    for _ in range(3):
        truth.append(number(finely()))
    points = [(step, value) for key, step, value, _ in settled(record).points if key == "loss"]
    assert points == numbered(truth)


@in_all_modes
def test_folds(record: Recording, compiled: Compiled) -> None:
    """One training after the other, each with an optimizer of its own: one series of losses."""
    truth = []

    def train() -> None:
        model, optimizer, (inputs, targets) = Line(), keras.optimizers.SGD(0.1), data()

        def step() -> Any:
            with tf.GradientTape() as tape:
                loss = model.error(inputs, targets)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            return loss

        run = compiled(step)
        truth.extend([number(run()) for _ in range(3)])

    for _ in range(3):
        train()
    settled(record)
    assert record.series("loss") == numbered(truth)
