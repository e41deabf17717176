"""What the program hands to TensorBoard: each value once, as TensorBoard's own files have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy
import pytest
import tensorflow as tf
import tf_keras
from tensorboard.plugins.hparams import api as hparams

from integrations.recording import Recording, recorded
from integrations.tensorflow.loops import Line, data, number, settled
from looptap_integrations.keras import KerasIntegration
from looptap_integrations.tensorflow import TensorFlowIntegration

in_both = pytest.mark.parametrize("compiled", [lambda function: function, tf.function], ids=["eager", "graph"])
Compiled = Callable[[Callable[..., Any]], Callable[..., Any]]


@pytest.fixture
def writer(record: Recording, tmp_path: Path) -> Iterator[Any]:
    made = tf.summary.create_file_writer(str(tmp_path))
    with made.as_default():
        yield made
    made.close()


def written(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would show, by tag."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.rglob("*tfevents*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return found


@in_both
def test_scalars(record: Recording, writer: Any, tmp_path: Path, compiled: Compiled) -> None:
    """Under their tag, with the scopes around it, at the step that is given or set."""

    def log(value: tf.Tensor, step: tf.Tensor) -> None:
        tf.summary.scalar("rate", value, step=step)
        with tf.name_scope("train"):
            tf.summary.scalar(name="error", data=value * 2, step=step + 10)

    log = compiled(log)
    for step, value in ((0, 0.1), (5, float("inf")), (2**31 + 1, -3.0)):
        log(tf.constant(value), tf.constant(step, tf.int64))
    tf.summary.experimental.set_step(7)
    tf.summary.scalar("set", 1)
    tf.summary.experimental.set_step(None)
    writer.flush()
    settled(record)
    found = written(tmp_path)
    assert found.keys() == {"rate", "train/error", "set"}
    for tag, points in found.items():
        assert record.series(tag) == points
    assert record.names() == found.keys()
    assert record.series("rate")[0] == (0, float(numpy.float32(0.1)))


@in_both
def test_only_what_is_written(record: Recording, writer: Any, tmp_path: Path, compiled: Compiled) -> None:
    """Not without a writer, and not at the steps that the program leaves out."""

    def log(step: tf.Tensor) -> None:
        with tf.summary.record_if(lambda: tf.equal(step % 2, 0)):
            tf.summary.scalar("even", step * 10, step=step)

    log = compiled(log)
    for step in range(5):
        log(tf.constant(step, tf.int64))
    with tf.summary.record_if(False):
        tf.summary.scalar("nowhere", 1.0, step=0)
    writer.flush()
    settled(record)
    assert record.series("even") == [(0, 0.0), (2, 20.0), (4, 40.0)] == written(tmp_path)["even"]
    assert record.names() == {"even"}


def test_errors_are_the_programs(record: Recording, writer: Any) -> None:
    with pytest.raises(ValueError, match="step"):
        tf.summary.scalar("no step", 1.0)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        tf.summary.scalar("many", [1.0, 2.0], step=0)
    assert record.points == []


def test_histograms_and_hyperparameters(record: Recording, writer: Any) -> None:
    values = tf.constant([[1.0, 2.0], [3.0, 6.0]])
    tf.summary.histogram("weights", values, step=4)
    hparams.hparams({"lr": 0.1, hparams.HParam("units", hparams.IntInterval(1, 9)): 3})
    expected = {"min": 1.0, "max": 6.0, "mean": 3.0, "std": 3.5**0.5, "count": 4.0}
    for name, value in expected.items():
        ((step, found),) = record.series(f"weights/{name}")
        assert step == 4
        assert found == pytest.approx(value)
    assert record.written == [("lr", 0.1, "tensorboard"), ("units", 3, "tensorboard")]


@in_both
def test_the_trainings_own_loss_is_one_point(record: Recording, writer: Any, compiled: Compiled) -> None:
    """Logged by the program too, under the same name at the same step."""
    model, optimizer, (inputs, targets) = Line(), keras.optimizers.SGD(0.05), data()

    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.error(inputs, targets)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    step, truth = compiled(step), []
    for number_of_step in range(4):
        loss = step()
        tf.summary.scalar("loss", loss, step=number_of_step)
        tf.summary.scalar("Loss/train", loss, step=number_of_step)
        truth.append((number_of_step, number(loss)))
    settled(record)
    assert record.series("loss") == truth
    assert record.series("Loss/train") == truth


def test_the_callback_of_keras(tmp_path: Path) -> None:
    """While fit leads, what its TensorBoard callback writes is what is recorded anyway; what the program writes is kept."""

    class Own(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            with own.as_default():
                tf.summary.scalar("mine", epoch * 1.5, step=epoch)

    own = tf.summary.create_file_writer(str(tmp_path / "own"))
    with recorded(TensorFlowIntegration, KerasIntegration) as record:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        board = keras.callbacks.TensorBoard(str(tmp_path / "board"), update_freq=1, histogram_freq=1)
        model.fit(*data(), batch_size=4, epochs=2, verbose=0, callbacks=[board, Own()])
        settled(record)
        assert record.series("mine") == [(0, 0.0), (1, 1.5)]
        assert len(record.values("epoch_loss")) == 2
        assert len(record.values("loss")) == 6
        tags = written(tmp_path / "board").keys()
        assert {"epoch_loss", "batch_loss"} <= tags
        points = [(key, step) for key, step, _, where in record.points if not where]
        assert len(points) == len(set(points))


def test_the_callback_of_tf_keras(record: Recording, tmp_path: Path) -> None:
    """Where nobody leads, it is recorded as it is written."""
    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(3,))])
    model.compile("sgd", "mse")
    model.fit(*data(), batch_size=4, epochs=2, verbose=0, callbacks=[tf_keras.callbacks.TensorBoard(str(tmp_path))])
    found = written(tmp_path)
    assert settled(record).series("epoch_loss") == found["epoch_loss"]
