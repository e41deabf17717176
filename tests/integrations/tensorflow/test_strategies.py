"""Several replicas: each one's own losses, and their sum where the optimizer descends that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf
import tf_keras

from integrations.recording import Recording
from integrations.tensorflow.loops import Line, data, number, numbered, settled


@pytest.fixture(params=["eager", "graph"])
def compiled(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return tf.function if request.param == "graph" else lambda function: function


@pytest.fixture
def strategy() -> tf.distribute.Strategy:
    # Its usual way of adding up holds one strategy in a process.
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())


def per_replica(strategy: tf.distribute.Strategy) -> Callable[[int], Any]:
    """Other data for each replica."""
    return lambda seed: strategy.experimental_distribute_values_from_function(
        lambda context: data(4, seed=2 * seed + context.replica_id_in_sync_group)
    )


def test_a_loss_of_each_replica(
    record: Recording, strategy: tf.distribute.Strategy, compiled: Callable[..., Any]
) -> None:
    """One step is one value: the sum, which is what Keras' optimizers descend."""
    with strategy.scope():
        model, optimizer = Line(), keras.optimizers.SGD(0.05)
        optimizer.build(model.trainable_variables)

    def step(values: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(*values) / 2
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    @compiled
    def train(values: tuple[tf.Tensor, tf.Tensor]) -> Any:
        return strategy.run(step, args=(values,))

    losses = [strategy.experimental_local_results(train(per_replica(strategy)(index))) for index in range(4)]
    settled(record)
    for replica in range(2):
        assert record.series("loss", replica=str(replica)) == numbered([number(both[replica]) for both in losses])
    assert record.series("loss") == numbered([number(one) + number(other) for one, other in losses])
    assert record.values("lr") == [pytest.approx(0.05)]
    assert record.step == 3
    assert record.params_by_key()["strategy.replicas"] == 2
    assert record.notes == []


def test_gradients_that_the_program_brings_together(
    record: Recording, strategy: tf.distribute.Strategy, compiled: Callable[..., Any]
) -> None:
    """What is descended is the program's affair: only the replicas' own losses are known."""
    with strategy.scope():
        model = Line()

    def gradients(values: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, Any]:
        with tf.GradientTape() as tape:
            loss = model.error(*values)
        return loss, tape.gradient(loss, model.trainable_variables)

    @compiled
    def train(values: tuple[tf.Tensor, tf.Tensor]) -> Any:
        loss, found = strategy.run(gradients, args=(values,))
        means = [strategy.reduce("MEAN", gradient, axis=None) for gradient in found]
        for variable, mean in zip(model.trainable_variables, means, strict=True):
            variable.assign_sub(0.1 * mean)
        return loss

    losses = [strategy.experimental_local_results(train(per_replica(strategy)(index))) for index in range(4)]
    settled(record)
    assert record.values("loss") == []
    for replica in range(2):
        assert record.series("loss", replica=str(replica)) == numbered([number(both[replica]) for both in losses])


def test_one_device(record: Recording) -> None:
    """A strategy of one replica is a loop like any other, compiled too."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model, optimizer = Line(), keras.optimizers.SGD(0.05)
        optimizer.build(model.trainable_variables)
    inputs, targets = data()

    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    @tf.function(jit_compile=True)
    def train() -> tf.Tensor:
        return strategy.run(step)

    losses = [number(train()) for _ in range(3)]
    assert settled(record).series("loss") == numbered(losses)


def test_an_optimizer_inside_of_another_one(record: Recording, strategy: tf.distribute.Strategy) -> None:
    """tf-keras calls the inner one in threads of its own; a step is one step."""
    with strategy.scope():
        model = Line()
        optimizer = tf_keras.mixed_precision.LossScaleOptimizer(tf_keras.optimizers.SGD(0.05))
        optimizer.build(model.trainable_variables)

    def step(values: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(*values)
            scaled = optimizer.get_scaled_loss(loss)
        gradients = optimizer.get_unscaled_gradients(tape.gradient(scaled, model.trainable_variables))
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    @tf.function
    def train(values: tuple[tf.Tensor, tf.Tensor]) -> Any:
        return strategy.run(step, args=(values,))

    losses = [strategy.experimental_local_results(train(per_replica(strategy)(index))) for index in range(3)]
    settled(record)
    assert record.series("loss") == numbered([number(one) + number(other) for one, other in losses])
    assert record.step == 2
    classes = [value for key, value, _ in record.written if key == "optimizer.class"]
    assert classes == [f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"]
