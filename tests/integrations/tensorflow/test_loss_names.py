"""A loss has the name of the program's variable, found once for each place, also in what AutoGraph has made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from integrations.recording import Recording
from integrations.tensorflow.loops import Line, data, in_all_modes, number, numbered, settled

Compiled = Callable[[Callable[..., Any]], Callable[..., Any]]


class Trainer:
    """Keeps its losses as attributes and in a dict."""

    def __init__(self, compiled: Compiled) -> None:
        self.model, (self.inputs, self.targets) = Line(), data()
        self.optimizer = keras.optimizers.SGD(0.05)
        self.as_attribute, self.in_dict = compiled(self._as_attribute), compiled(self._in_dict)

    def _as_attribute(self) -> Any:
        with tf.GradientTape() as tape:
            self.reconstruction = self.model.error(self.inputs, self.targets)
        weights = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(self.reconstruction, weights), weights, strict=True))
        return self.reconstruction

    def _in_dict(self) -> Any:
        with tf.GradientTape() as tape:
            losses = {"distance": self.model.error(self.inputs, self.targets)}
        weights = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(losses["distance"], weights), weights, strict=True))
        return losses["distance"]


@in_all_modes
def test_attributes_and_dicts(record: Recording, compiled: Compiled) -> None:
    trainer = Trainer(compiled)
    truth = [number(trainer.as_attribute()), number(trainer.in_dict())]
    settled(record)
    assert record.series("reconstruction") == [(0, truth[0])]
    assert record.series("distance") == [(1, truth[1])]


@in_all_modes
def test_expressions(record: Recording, compiled: Compiled) -> None:
    """What has no variable itself has the name of the one tensor in it; keyword arguments; calls over several lines."""
    model, (inputs, targets) = Line(), data()
    optimizer = keras.optimizers.SGD(0.05)
    factor = 0.5

    def step() -> Any:
        with tf.GradientTape(persistent=True) as tape:
            energy = model.error(inputs, targets)
            half = [energy * factor]
        gradients = tape.gradient(
            half[0],
            model.trainable_variables,
        )
        optimizer.apply(gradients, model.trainable_variables)
        with tape:
            surprise = model.error(inputs, targets)
        gradients = tape.gradient(target=surprise, sources=model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return half[0], surprise

    step = compiled(step)
    first, second = map(number, step())
    settled(record)
    assert record.series("half.0") == [(0, first)]
    assert record.series("surprise") == [(1, second)]


@in_all_modes
def test_no_name(record: Recording, compiled: Compiled) -> None:
    """A loss that the program keeps nowhere is ``loss``."""
    model, (inputs, targets) = Line(), data()
    optimizer = keras.optimizers.SGD(0.05)

    def step() -> None:
        with tf.GradientTape() as tape:
            gradients = tape.gradient(model.error(inputs, targets), model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    step = compiled(step)
    before = number(model.error(inputs, targets))
    step()
    ((_, value),) = settled(record).series("loss")
    assert abs(value - before) < 1e-5 * before


@in_all_modes
def test_several_losses_of_one_call(record: Recording, compiled: Compiled) -> None:
    """A list of targets: gradients of their sum, each a loss with its own name."""
    model, (inputs, targets) = Line(), data()
    optimizer = keras.optimizers.SGD(0.05)

    def step() -> Any:
        with tf.GradientTape() as tape:
            near = model.error(inputs, targets)
            far = model.error(inputs, targets + 1.0)
        optimizer.apply(tape.gradient([near, far], model.trainable_variables), model.trainable_variables)
        return near, far

    step = compiled(step)
    truth = [tuple(map(number, step())) for _ in range(3)]
    settled(record)
    assert record.series("near") == numbered([near for near, _ in truth])
    assert record.series("far") == numbered([far for _, far in truth])


@in_all_modes
def test_a_trainer_of_many_layers(record: Recording, compiled: Compiled) -> None:
    """Functions that call functions; the name is that where the tape is asked."""
    model, (inputs, targets) = Line(), data()
    optimizer = keras.optimizers.SGD(0.05)

    def differentiate(objective: Callable[[], Any]) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            value = objective()
        return value, tape.gradient(value, model.trainable_variables)

    def update() -> Any:
        total, gradients = differentiate(lambda: model.error(inputs, targets))
        optimizer.apply(gradients, model.trainable_variables)
        return total

    step = compiled(update)
    truth = [number(step()) for _ in range(3)]
    assert settled(record).series("value") == numbered(truth)
