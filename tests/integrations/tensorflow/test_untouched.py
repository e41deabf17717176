"""Programs that do more with gradients than train: they compute what they computed, and what is no loss is not taken for one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy
import pytest
import tensorflow as tf

from integrations.recording import Recording, recorded
from integrations.tensorflow.loops import Line, data, in_all_modes, number, numbered, settled
from looptap_integrations.keras import KerasIntegration
from looptap_integrations.tensorflow import TensorFlowIntegration

Compiled = Callable[[Callable[..., Any]], Callable[..., Any]]


def both(program: Callable[[], Any]) -> tuple[Any, Any, Recording]:
    """What the program gives without us and with us, and the record."""
    alone = program()
    with recorded(TensorFlowIntegration) as record:
        watched = program()
        settled(record)
    return alone, watched, record


def test_gradients_of_single_samples() -> None:
    """``tf.vectorized_map`` turns the function into one for all samples, and knows no operation of ours."""
    model, (inputs, targets) = Line(), data()

    def program() -> Any:
        @tf.function
        def gradients() -> Any:
            def of_sample(sample: tuple[tf.Tensor, tf.Tensor]) -> Any:
                with tf.GradientTape() as tape:
                    loss = model.error(sample[0][None], sample[1][None])
                return tape.gradient(loss, model.trainable_variables)

            return tf.vectorized_map(of_sample, (inputs, targets))

        return [gradient.numpy() for gradient in gradients()]

    alone, watched, record = both(program)
    assert alone[1].shape == (12, 3, 1)
    assert all((one == other).all() for one, other in zip(alone, watched, strict=True))
    assert record.values("loss") == []
    assert any("tf.vectorized_map" in note for note in record.notes)


def test_jacobians_and_products() -> None:
    """Not gradients of a loss."""
    model, (inputs, _) = Line(), data()

    def program() -> Any:
        with tf.GradientTape(persistent=True) as tape:
            outputs = model(inputs)
        return tape.jacobian(outputs, model.weights).numpy()

    alone, watched, record = both(program)
    assert (alone == watched).all()
    assert record.points == []


@in_all_modes
def test_functions_with_gradients_of_their_own(compiled: Compiled) -> None:
    """TensorFlow asks tapes for purposes of its own: checkpointing computes a block again."""
    inputs, targets = data()

    def program() -> Any:
        model, optimizer = Line(), keras.optimizers.SGD(0.05)
        block = tf.recompute_grad(lambda values: tf.tanh(model(values)))

        @tf.custom_gradient
        def clipped(value: tf.Tensor) -> Any:
            return value, lambda upstream: tf.clip_by_value(upstream, -0.01, 0.01)

        def step() -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(clipped(block(inputs)) - targets))
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            return loss

        run = compiled(step)
        return [number(run()) for _ in range(3)]

    alone, watched, record = both(program)
    assert alone == watched
    assert record.series("loss") == numbered(alone)


def test_a_training_step_inside_of_a_tape() -> None:
    """Gradients through a function that has a tape, a loop and a ring in it; what it differentiates by hand has names too."""

    def program() -> Any:
        outer = tf.Variable(0.3)

        @tf.function
        def adapted(start: tf.Tensor) -> tf.Tensor:
            weight = start
            for _ in tf.range(3):
                with tf.GradientTape() as tape:
                    tape.watch(weight)
                    inner = tf.square(weight - 1.0)
                weight -= 0.1 * tape.gradient(inner, weight)
            return tf.square(weight - 2.0)

        optimizer, losses = keras.optimizers.SGD(0.1), []
        for _ in range(3):
            with tf.GradientTape() as tape:
                meta = adapted(outer)
            optimizer.apply([tape.gradient(meta, outer)], [outer])
            losses.append(number(meta))
        return losses

    alone, watched, record = both(program)
    assert alone == watched
    assert record.series("meta") == numbered(alone)
    assert record.names() - {"step_time"} == {"meta", "lr"}


def test_graphs_of_tensorflow_1() -> None:
    """A graph with a session is left alone, and that is said."""

    def program() -> Any:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            weight = tf.compat.v1.get_variable("weight", initializer=1.0, use_resource=True)
            with tf.GradientTape() as tape:
                loss = tf.square(weight - 3.0)
            update = weight.assign_sub(0.1 * tape.gradient(loss, weight))
            session.run(tf.compat.v1.global_variables_initializer())
            return [float(session.run(update)) for _ in range(3)]

    alone, watched, record = both(program)
    assert alone == watched
    assert record.values("loss") == []
    assert record.notes == ["losses in graphs of TensorFlow 1 and their sessions are not seen"]


def test_pipelines() -> None:
    """A tape in a function of a ``tf.data`` pipeline: data, and no training."""
    model, (inputs, targets) = Line(), data()

    def saliency(sample: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(sample[None], target[None])
        return tape.gradient(loss, model.weights)

    def program() -> Any:
        dataset = tf.data.Dataset.from_tensor_slices((inputs, targets)).map(saliency)
        return numpy.stack([gradient.numpy() for gradient in dataset])

    alone, watched, record = both(program)
    assert (alone == watched).all()
    assert record.values("loss") == []


def test_only_one_branch(record: Recording) -> None:
    """Of a step that is taken or not, at the run."""
    model, optimizer, (inputs, targets) = Line(), keras.optimizers.SGD(0.05), data()
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(trains: tf.Tensor) -> tf.Tensor:
        loss = tf.constant(-1.0)
        if trains:
            with tf.GradientTape() as tape:
                loss = model.error(inputs, targets)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    losses = [number(step(tf.constant(trains))) for trains in (True, False, False, True)]
    assert losses[1:3] == [-1.0, -1.0]
    assert settled(record).series("loss") == [(0, losses[0]), (1, losses[3])]


@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eager"])
def test_keras_is_told_once(eagerly: bool) -> None:
    """While ``fit`` leads, its own tape is none of ours; before and after it, the program's is."""
    with recorded(TensorFlowIntegration, KerasIntegration) as record:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.05), "mse", run_eagerly=eagerly)
        inputs, targets = data()
        by_hand = trained_by_hand(model)
        first = by_hand(inputs, targets)
        seen: list[float] = []
        model.fit(
            inputs,
            targets,
            batch_size=4,
            epochs=2,
            verbose=0,
            callbacks=[
                keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
            ],
        )
        last = by_hand(inputs, targets)
        settled(record)
        points = [(step, value) for key, step, value, where in record.points if key == "loss" and not where]
    # A model that begins to count its own steps begins a run.
    assert points == [(0, first), *enumerate(seen), (6, last)]


def trained_by_hand(model: Any) -> Callable[..., float]:
    optimizer = keras.optimizers.SGD(0.01)

    @tf.function
    def step(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(inputs) - targets))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return lambda inputs, targets: number(step(inputs, targets))


class Trainer(tf.Module):
    """A module whose training step is a function of it."""

    def __init__(self, jit_compile: bool) -> None:
        super().__init__()
        self.model = Line()

        @tf.function(jit_compile=jit_compile, input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([None, 1])])
        def step(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = self.model.error(inputs, targets)
            for variable, gradient in zip(
                self.model.trainable_variables, tape.gradient(loss, self.model.trainable_variables), strict=True
            ):
                variable.assign_sub(0.1 * gradient)
            return loss

        self.step = step


LOADER = """
import sys, numpy
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
inputs, targets = (tf.constant(numpy.load(name)) for name in sys.argv[2:])
print(*[float(model.step(inputs, targets)).hex() for _ in range(3)])
"""


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_saved_functions(record: Recording, tmp_path: Path, jit_compile: bool) -> None:
    """A module that has trained is saved, and trains on where nobody knows of us; here it is seen as before."""
    trainer, (inputs, targets) = Trainer(jit_compile), data()
    truth = [number(trainer.step(inputs, targets)) for _ in range(3)]
    tf.saved_model.save(trainer, str(tmp_path / "model"))
    assert settled(record).values("loss") == truth
    numpy.save(tmp_path / "inputs.npy", inputs)
    numpy.save(tmp_path / "targets.npy", targets)
    truth = [number(trainer.step(inputs, targets)) for _ in range(3)]
    done = subprocess.run(
        [sys.executable, "-c", LOADER, "model", "inputs.npy", "targets.npy"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [float.fromhex(word) for word in done.stdout.split()] == truth
    assert settled(record).values("loss")[3:] == truth
