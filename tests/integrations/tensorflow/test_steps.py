"""Loops with a tape and an optimizer: every step has its loss, whatever the loop's shape, as the program runs and in graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy
import pytest
import tensorflow as tf

from integrations.recording import Recording
from integrations.tensorflow.loops import Line, data, in_all_modes, in_graphs, number, numbered, settled

Compiled = Callable[[Callable[..., Any]], Callable[..., Any]]


@in_all_modes
def test_a_loss_for_every_step(record: Recording, compiled: Compiled) -> None:
    """Under its variable's name, to the last bit, with the learning rate that a schedule gave; settings once."""
    model, (inputs, targets) = Line(), data()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=1, decay_rate=0.5)
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9)

    def step(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            error = model.error(inputs, targets)
        gradients = tape.gradient(error, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return error

    step = compiled(step)
    truth = [number(step(inputs, targets)) for _ in range(6)]
    settled(record)
    assert record.series("error") == numbered(truth)
    assert record.series("lr") == numbered([float(numpy.float32(0.1 * 0.5**step)) for step in range(6)])
    assert record.names() - {"step_time"} == {"error", "lr"}
    assert record.step == 5
    params = record.params_by_key()
    assert params["optimizer.class"] == "keras.src.optimizers.sgd.SGD"
    assert params["optimizer.momentum"] == 0.9
    assert params["optimizer.learning_rate.class"] == "ExponentialDecay"
    assert params["optimizer.learning_rate.decay_rate"] == 0.5
    assert params["seed.tensorflow"] == 0
    assert len(params) == len(record.written)
    assert record.notes == []


@in_all_modes
def test_numbers_are_those_without_us(compiled: Compiled) -> None:
    """Two trainings from the same seed, one of them unwatched: the same weights."""
    from integrations.recording import recorded
    from looptap_integrations.tensorflow import TensorFlowIntegration

    def train() -> list[Any]:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
        optimizer, (inputs, targets) = keras.optimizers.Adam(0.01), data()

        def step() -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(inputs) - targets))
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

        step = compiled(step)
        for _ in range(20):
            step()
        found: list[Any] = model.get_weights()
        return found

    alone = train()
    with recorded(TensorFlowIntegration) as record:
        watched = train()
        assert len(settled(record).values("loss")) == 20
    assert all((one == other).all() for one, other in zip(alone, watched, strict=True))


@in_all_modes
def test_accumulation(record: Recording, compiled: Compiled) -> None:
    """The loss of a step is the sum of what was differentiated for it; micro-batches in one graph, or in one each."""
    model, optimizer = Line(), keras.optimizers.SGD(0.05)
    sums = [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in model.trainable_variables]

    def micro(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets) / 3
        for total, gradient in zip(sums, tape.gradient(loss, model.trainable_variables), strict=True):
            total.assign_add(gradient)
        return loss

    def update() -> None:
        optimizer.apply_gradients(zip(sums, model.trainable_variables, strict=True))
        for total in sums:
            total.assign(tf.zeros_like(total))

    micro, update = compiled(micro), compiled(update)
    truth = []
    for step in range(3):
        losses = [number(micro(*data(seed=3 * step + part))) for part in range(3)]
        update()
        truth.append(losses[0] + losses[1] + losses[2])
    assert settled(record).series("loss") == numbered(truth)


@in_graphs
def test_a_loop_inside_of_a_graph(record: Recording, compiled: Compiled) -> None:
    """Several steps in one call, some with two micro-batches, decided at the run: each step its exact value."""
    model, (inputs, targets) = Line(), data(24)
    optimizer = keras.optimizers.SGD(0.05)
    optimizer.build(model.trainable_variables)

    def gradients(index: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss = model.error(inputs[2 * index : 2 * index + 2], targets[2 * index : 2 * index + 2])
        return loss, list(tape.gradient(loss, model.trainable_variables))

    @compiled
    def epoch(count: tf.Tensor) -> tf.Tensor:
        losses = tf.TensorArray(tf.float32, size=12, element_shape=[])
        for index in tf.range(count):
            loss, found = gradients(index)
            if index % 3 == 2:
                more, others = gradients(index - 1)
                loss += more
                found = [one + other for one, other in zip(found, others, strict=True)]
            optimizer.apply(found, model.trainable_variables)
            losses = losses.write(index, loss)
        return losses.stack()

    first, second = (epoch(tf.constant(count)).numpy()[:count] for count in (12, 5))
    truth = numpy.concatenate([first, second]).tolist()
    series = settled(record).series("loss")
    assert [step for step, _ in series] == list(range(17))
    plain = [step for step in range(17) if (step if step < 12 else step - 12) % 3 != 2]
    assert [series[step][1] for step in plain] == [truth[step] for step in plain]
    assert [value for _, value in series] == pytest.approx(truth, rel=1e-6)  # sums in float64, and in float32


def test_a_loop_over_data_inside_of_a_graph(record: Recording) -> None:
    model, (inputs, targets) = Line(), data(40)
    optimizer, seen = keras.optimizers.Adam(0.05), tf.Variable(tf.zeros([40]), trainable=False)
    optimizer.build(model.trainable_variables)

    @tf.function
    def epoch(dataset: tf.data.Dataset) -> None:
        for index, (x, y) in dataset.enumerate():
            with tf.GradientTape() as tape:
                loss = model.error(x, y)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            seen.scatter_nd_update([[index]], [loss])

    epoch(tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(1))
    assert settled(record).series("loss") == numbered(seen.numpy().astype(float).tolist())


def test_gradients_in_a_graph_and_the_step_outside(record: Recording) -> None:
    """The order of what happens in both is the program's; the times are known where the program runs."""
    model, (inputs, targets) = Line(), data()
    optimizer, truth = keras.optimizers.SGD(0.05), []

    @tf.function
    def gradients() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets)
        return loss, tape.gradient(loss, model.trainable_variables)

    for _ in range(5):
        loss, found = gradients()
        optimizer.apply(found, model.trainable_variables)
        truth.append(number(loss))
    assert record.series("loss") == numbered(truth)
    assert record.step == 4
    assert [step for step, _ in record.series("step_time")] == [1, 2, 3, 4]


@in_all_modes
def test_two_optimizers(record: Recording, compiled: Compiled) -> None:
    """A GAN: one round is one step; each loss has its name, each learning rate its optimizer's."""
    generator, critic = Line(), Line()
    g_optimizer, c_optimizer = keras.optimizers.SGD(0.01), keras.optimizers.Adam(0.02)
    noise, (inputs, _) = tf.ones([4, 3]), data()

    def step() -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as g_tape, tf.GradientTape() as c_tape:
            fake = critic(tf.tile(generator(noise), [1, 3]))
            g_loss = tf.reduce_mean(tf.square(fake - 1.0))
            c_loss = tf.reduce_mean(tf.square(critic(inputs) - 1.0)) + tf.reduce_mean(tf.square(fake))
        g_gradients = g_tape.gradient(g_loss, generator.trainable_variables)
        c_gradients = c_tape.gradient(c_loss, critic.trainable_variables)
        g_optimizer.apply_gradients(zip(g_gradients, generator.trainable_variables, strict=True))
        c_optimizer.apply_gradients(zip(c_gradients, critic.trainable_variables, strict=True))
        return g_loss, c_loss

    step = compiled(step)
    truth = [tuple(map(number, step())) for _ in range(4)]
    settled(record)
    assert record.series("g_loss") == numbered([one for one, _ in truth])
    assert record.series("c_loss") == numbered([other for _, other in truth])
    assert record.series("lr", optimizer="g_optimizer") == [(0, float(numpy.float32(0.01)))]
    assert record.series("lr", optimizer="c_optimizer") == [(0, float(numpy.float32(0.02)))]
    assert record.params_by_key()["g_optimizer.class"] == "keras.src.optimizers.sgd.SGD"
    assert record.params_by_key()["c_optimizer.beta_1"] == 0.9


def test_two_graphs_in_turns(record: Recording) -> None:
    """One function for each optimizer, called two to one."""
    one, other, (inputs, targets) = Line(), Line(), data()
    one_optimizer, other_optimizer = keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.2)

    def trained(model: Line, optimizer: Any) -> Callable[[], tf.Tensor]:
        @tf.function
        def step() -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = model.error(inputs, targets)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            return loss

        made: Callable[[], tf.Tensor] = step
        return made

    first, second = trained(one, one_optimizer), trained(other, other_optimizer)
    truth: list[tuple[int, float]] = []
    apart: list[tuple[int, float]] = []
    for round_number in range(3):
        truth.append((2 * round_number, number(first())))
        truth.append((2 * round_number + 1, number(first())))
        apart.append((2 * round_number + 1, number(second())))
    settled(record)
    assert record.series("loss") == truth
    assert record.series("loss", optimizer="other_optimizer") == apart


@pytest.mark.parametrize("in_turns", [True, False])
@in_all_modes
def test_a_persistent_tape_for_two_optimizers(record: Recording, compiled: Compiled, in_turns: bool) -> None:
    """One loss, differentiated twice for the variables of two optimizers, is one loss."""
    model, (inputs, targets) = Line(), data()
    slow, fast = keras.optimizers.SGD(0.01), keras.optimizers.SGD(0.1)

    def step() -> tf.Tensor:
        with tf.GradientTape(persistent=True) as tape:
            loss = model.error(inputs, targets)
        gradients = tape.gradient(loss, [model.weights])
        if in_turns:
            slow.apply(gradients, [model.weights])
            fast.apply(tape.gradient(loss, [model.bias]), [model.bias])
        else:
            others = tape.gradient(loss, [model.bias])
            slow.apply(gradients, [model.weights])
            fast.apply(others, [model.bias])
        return loss

    step = compiled(step)
    truth = [number(step()) for _ in range(4)]
    assert [(step, value) for key, step, value, _ in settled(record).points if key == "loss"] == numbered(truth)


@in_all_modes
def test_gradients_of_gradients(record: Recording, compiled: Compiled) -> None:
    """A penalty needs a tape of its own, whose target is no loss: it is differentiated by inputs."""
    model, (inputs, targets) = Line(), data()
    optimizer = keras.optimizers.SGD(0.01)

    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                outputs = tf.square(model(inputs))
                energy = tf.reduce_sum(outputs)
            slope = inner.gradient(energy, inputs)
            loss = tf.reduce_mean(tf.square(outputs - targets)) + tf.reduce_mean(tf.square(slope))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    step = compiled(step)
    truth = [number(step()) for _ in range(4)]
    assert settled(record).series("loss") == numbered(truth)
    assert record.names() - {"step_time"} == {"loss", "lr"}


@in_all_modes
def test_no_optimizer(record: Recording, compiled: Compiled) -> None:
    """Weights updated by hand: each loss is a step."""
    model, (inputs, targets) = Line(), data()

    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets)
        for variable, gradient in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
        ):
            variable.assign_sub(0.1 * gradient)
        return loss

    step = compiled(step)
    truth = [number(step()) for _ in range(5)]
    assert settled(record).series("loss") == numbered(truth)
    assert record.step == 4


@in_all_modes
def test_mixed_precision(record: Recording, compiled: Compiled) -> None:
    """The loss is that before it was scaled, under the name that it had."""
    model, (inputs, targets) = Line(), data()
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=1024.0)

    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            error = model.error(inputs, targets)
            scaled = optimizer.scale_loss(error)
        optimizer.apply(tape.gradient(scaled, model.trainable_variables), model.trainable_variables)
        return error

    step = compiled(step)
    truth = [number(step()) for _ in range(4)]
    assert settled(record).series("error") == numbered(truth)
    assert record.series("lr") == [(0, float(numpy.float32(0.05)))]
    assert record.names() - {"step_time"} == {"error", "lr"}
