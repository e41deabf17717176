"""Which data set a loop of the program's own is fed from, and what for; and nothing is read for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy
import pytest
import tensorflow as tf

from integrations.recording import Recording, recorded
from integrations.tensorflow.loops import Line, in_all_modes
from looptap_integrations.numpy_files import NumpyFilesIntegration
from looptap_integrations.tensorflow import TensorFlowIntegration

X = numpy.arange(60, dtype="float32").reshape(20, 3) / 60
Dataset = tf.data.Dataset


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TensorFlowIntegration, NumpyFilesIntegration) as recording:
        yield recording


def of(start: float, count: int = 20) -> Any:
    """Told apart by the number of items."""
    return Dataset.from_tensor_slices((X + start)[:count])


def stepper(compiled: Callable[..., Any] = lambda function: function) -> tuple[Any, Any]:
    """A step of training, and the loss without one."""
    line, optimizer = Line(), keras.optimizers.SGD(0.01)

    def step(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = line.error(batch, tf.ones((len(batch), 1)))
        variables = line.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return compiled(step), lambda batch: line.error(batch, tf.ones((len(batch), 1)))


def lengths(record: Recording) -> dict[str, list[int | None]]:
    found: dict[str, list[int | None]] = {}
    for (role, _), told in record.datasets.items():
        found.setdefault(role, []).append(told.length)
    return found


@in_all_modes
def test_roles(compiled: Callable[..., Any]) -> None:
    """What steps are taken with trains; what is gone over without one validates, in between or after an epoch, or tests where
    its variable is called so; what was looked at before the training, or once, is neither."""
    with recorded(TensorFlowIntegration, NumpyFilesIntegration) as record:
        step, error = stepper(compiled)
        train, held_out, in_between, test_set, looked_at = (of(n, 20 - n) for n in range(5))
        for batch in looked_at.batch(4):
            numpy.asarray(batch)
        for _ in range(2):
            for number, batch in enumerate(train.shuffle(20).batch(4)):
                step(batch)
                if number == 2:
                    for other in in_between.batch(4):
                        error(other)
            for batch in held_out.batch(4):
                error(batch)
            next(iter(looked_at.batch(4)))
        for batch in test_set:
            error(batch[None])
    assert lengths(record) == {"train": [20], "validation": [18, 19], "test": [17]}


def test_two_that_train(record: Recording) -> None:
    """Batches of both in every step; the one that is asked first, too."""
    step, _ = stepper()
    pairs = zip(of(0).batch(4), of(1, 12).batch(4), strict=False)
    for _ in range(2):
        for one, other in pairs:
            step(tf.concat([one, other], 0))
    assert 12 in lengths(record)["train"]


def test_a_data_set_that_is_gone(record: Recording) -> None:
    """Made anew for every epoch it is told once, though nobody has it any more."""
    step, error = stepper()
    for _ in range(3):
        for batch in of(0).take(7).batch(7):
            step(batch)
    for batch in of(1, 9).batch(3):
        error(batch)
    del batch
    assert lengths(record) == {"train": [7]}


def test_the_end_of_a_run() -> None:
    """What the last pass was for is told then; one step is enough."""
    with recorded(TensorFlowIntegration, NumpyFilesIntegration) as record:
        step, error = stepper()
        for batch in of(0).batch(20):
            step(batch)
        for batch in of(1, 9).batch(3):
            error(batch)
        assert lengths(record) == {"train": [20]}
    assert lengths(record) == {"train": [20], "validation": [9]}


def test_another_run(record: Recording) -> None:
    """Its data is told again, also where the loop goes on."""
    step, _ = stepper()
    batches = iter(of(0).repeat().batch(4))
    for _ in range(3):
        step(next(batches))
    assert lengths(record) == {"train": [20]}
    record.datasets.clear()
    record._data = type(record._data)(record._write, record.note, str)
    record.new_run()
    for _ in range(3):
        step(next(batches))
    assert lengths(record) == {"train": [20]}


def test_where_steps_show_late(record: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device nobody waits for them: it is the names that tell, and without any a data set is not told."""
    monkeypatch.setattr("looptap_integrations.tensorflow.loop.Loop._has_device", lambda loop: True)
    monkeypatch.setattr("looptap_integrations.tensorflow.loop.Loop._waits_for", lambda loop, value: False)
    step, error = stepper()
    train_batches, x_val, other = of(0).batch(4), of(1, 12).batch(4), of(2, 8).batch(4)
    for data in (train_batches, x_val, other, train_batches):
        for batch in data:
            (error if data is x_val else step)(batch)
    assert lengths(record) == {"train": [20], "validation": [12]}


def test_a_strategy(record: Recording) -> None:
    """Each replica gets its part of what was handed out to them: it is the same data."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        step, error = stepper()
    x_test = strategy.experimental_distribute_dataset(of(1, 8).batch(4))
    for batch in strategy.experimental_distribute_dataset(of(0).batch(4)):
        strategy.run(step, args=(batch,))
    for batch in x_test:
        strategy.run(error, args=(batch,))
    next(iter(of(2)))
    assert lengths(record) == {"train": [20], "test": [8]}


def test_few_of_many_are_looked_at(record: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes a data set for every file does not wait for us each time."""
    asked: list[Any] = []
    describe = record.describers.describe

    def looked_at(thing: Any) -> Any:
        asked.extend([thing] if isinstance(thing, Dataset) else [])
        return describe(thing)

    monkeypatch.setattr(record.describers, "describe", looked_at)
    step, _ = stepper()
    for number in range(120):
        for batch in Dataset.from_tensor_slices(X[: number % 20 + 1]).batch(20):
            step(batch)
    assert 0 < len(asked) <= 101  # one of them before the run


def test_the_program_is_the_same() -> None:
    """The same batches with and without us, in a graph too; and the methods come back."""
    iterator = type(iter(of(0)))
    before = [Dataset.__iter__, iterator.__next__, iterator.get_next]

    @tf.function
    def total(data: Any) -> Any:
        found = tf.zeros((3,))
        for row in data:
            found += row
        return found + next(iter(data))

    def run() -> list[Any]:
        tf.random.set_seed(1)
        rows = [row.numpy().tolist() for row in of(0).shuffle(20, seed=1)]
        return [rows, total(of(0)).numpy().tolist(), [row.tolist() for row in of(1).as_numpy_iterator()]]

    without = run()
    with recorded(TensorFlowIntegration, NumpyFilesIntegration):
        assert Dataset.__iter__ is not before[0]
        assert run() == without
    assert [Dataset.__iter__, iterator.__next__, iterator.get_next] == before
