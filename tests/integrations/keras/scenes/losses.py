"""``batch_loss``: the loss of each batch itself, equal to the last bit to what the same training tells batch by batch."""

from __future__ import annotations

import importlib
from typing import Any

import keras
import numpy as np
import pytest

from integrations.keras.models import Seen, data, made, watched, weights
from integrations.recording import Recording

BACKEND = keras.backend.backend()
IS_TENSORFLOW = BACKEND == "tensorflow"


def truth(epochs: int = 1, **compiled: Any) -> list[float]:
    """Of batches of eight, whose mean over eight is the loss to the last bit."""
    model = made(**compiled)
    x, y = data()
    found: list[float] = []
    for _ in range(epochs):
        for first in range(0, len(x), 8):
            model.reset_metrics()
            found.append(float(model.train_on_batch(x[first : first + 8], y[first : first + 8])[0]))
    return found


def numbered(values: list[float]) -> list[tuple[int, float]]:
    return list(enumerate(values))


@pytest.mark.parametrize("compiled", [{}, {"run_eagerly": True}, {"jit_compile": True}], ids=["plain", "eager", "jit"])
def test_loss_of_every_batch(compiled: dict[str, Any]) -> None:
    """Also compiled by XLA; missing where JAX or torch.compile has compiled the step. The weights are the same as without us."""
    if BACKEND == "torch":
        # It has a limit of what it compiles, which the tests before this one may have come to.
        importlib.import_module("torch").compiler.reset()
    is_hidden = {"jax": "run_eagerly" not in compiled, "torch": "jit_compile" in compiled}.get(BACKEND, False)
    expected = [] if is_hidden else truth(epochs=2, **compiled)
    alone = made(**compiled)
    alone.fit(*data(), batch_size=8, epochs=2, shuffle=False, verbose=0)
    with watched() as record:
        model, seen = made(**compiled), Seen()
        model.fit(*data(), batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[seen])
    found = record.series("batch_loss")
    if found and BACKEND == "torch" and is_hidden:
        # Keras 3.3 is compiled until PyTorch has had enough of it; what runs eagerly then tells its losses.
        found, expected = found[:10], truth(epochs=2, **compiled)
    assert found == numbered(expected)
    assert record.series("loss") == seen.of_batches("loss")
    assert weights(model) == weights(alone)
    assert record.notes == []


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has it on the other backends only")
def test_several_steps_in_one_execution(record: Recording) -> None:
    """The values that Keras tells stand at the last of them; the loss of each is there all the same."""
    seen = Seen()
    model = made(steps_per_execution=3)
    model.fit(*data(), batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[seen])
    # Before Keras 3.6 nobody is told of an execution in which the data comes to its end.
    steps = (2, 4, 7, 9) if len(seen.batches) == 4 else (2, 7)
    assert record.series("loss") == list(zip(steps, [logs["loss"] for logs in seen.batches], strict=True))
    assert record.series("epoch") == [(2, 0.0), (7, 1.0)]
    if IS_TENSORFLOW:
        assert record.step == 9
        with record.suppress():
            expected = truth(epochs=2)
        assert record.series("batch_loss") == numbered(expected)


@pytest.mark.skipif(not IS_TENSORFLOW, reason="of tf.data")
def test_data_without_a_length(record: Recording) -> None:
    """The last execution of an epoch has fewer steps, as the losses tell."""
    import tensorflow as tf

    x, y = data()
    spec = (tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((None,), tf.int32))
    batches = tf.data.Dataset.from_generator(
        lambda: ((x[first : first + 8], y[first : first + 8]) for first in range(0, 40, 8)), output_signature=spec
    )
    with record.suppress():
        expected = truth(epochs=2)
    made(steps_per_execution=3).fit(batches, epochs=2, verbose=0)
    assert record.series("batch_loss") == numbered(expected)
    assert [step for step, _ in record.series("loss")] in ([2, 4, 7, 9], [2, 7])


class Custom(keras.Model):
    """Its own ``train_step``, as Keras' guides have it, with trackers of its own, told by hand what it hands them."""

    def __init__(self, updates: int = 1) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.total = keras.metrics.Mean(name="loss")
        self.part = keras.metrics.Mean(name="part_loss")
        self.norm = keras.metrics.Mean(name="norm")
        self.updates = updates

    @property
    def metrics(self) -> list[Any]:
        return [self.total, self.part, self.norm]

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def train_step(self, *args: Any) -> Any:
        return getattr(self, f"{BACKEND}_step")(*args)

    def tensorflow_step(self, batch: Any) -> Any:
        import tensorflow as tf

        x, y = batch
        with tf.GradientTape() as tape:
            part = keras.ops.mean((self(x) - y) ** 2)
            loss = 2.0 * part
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.told(loss, part)

    def torch_step(self, batch: Any) -> Any:
        import torch

        x, y = batch
        self.zero_grad()
        part = keras.ops.mean((self(x) - y) ** 2)
        loss = 2.0 * part
        loss.backward()
        with torch.no_grad():
            self.optimizer.apply([weight.value.grad for weight in self.trainable_weights], self.trainable_weights)
        return self.told(loss, part)

    def told(self, loss: Any, part: Any) -> Any:
        for _ in range(self.updates):
            self.total.update_state(loss)
        self.part.update_state(part)
        self.norm.update_state(part)
        return {metric.name: metric.result() for metric in self.metrics}


@pytest.mark.skipif(BACKEND == "jax", reason="hidden in what JAX compiles")
@pytest.mark.parametrize("is_eager", [False, True])
def test_train_step_of_the_program(record: Recording, is_eager: bool) -> None:
    """Each loss by the name of its metric; what is none, and what is not there in one number, is left to Keras' means."""
    keras.utils.set_random_seed(0)
    model = Custom()
    model.compile(optimizer=keras.optimizers.SGD(0.01), run_eagerly=is_eager)
    x, _ = data()
    y = x.sum(axis=1, keepdims=True)
    seen = Seen()
    model.fit(x, y, batch_size=40, epochs=6, verbose=0, callbacks=[seen])
    # One batch an epoch: the mean is that of one number.
    assert record.series("batch_loss") == seen.of_batches("loss") == record.series("loss")
    assert record.series("batch_part_loss") == seen.of_batches("part_loss")
    assert record.series("norm") == seen.of_batches("norm")
    assert "batch_norm" not in record.names()


@pytest.mark.skipif(BACKEND == "jax", reason="hidden in what JAX compiles")
@pytest.mark.parametrize("is_eager", [False, True])
def test_two_losses_in_one_step(record: Recording, is_eager: bool) -> None:
    """Which of them is the batch's nobody can tell: none is, and ``looptap doctor`` says so."""
    model = Custom(updates=2)
    model.compile(optimizer=keras.optimizers.SGD(0.01), run_eagerly=is_eager)
    x, _ = data()
    model.fit(x, x[:, :1], batch_size=8, verbose=0)
    assert record.series("batch_loss") == []
    assert sorted(step for step, _ in record.series("loss")) == [0, 1, 2, 3, 4]
    assert any("batch_loss is left out" in note for note in record.notes)


@pytest.mark.skipif(BACKEND == "jax", reason="hidden in what JAX compiles")
def test_losses_of_several_outputs(record: Recording) -> None:
    """Each output's and their sum."""
    inputs = keras.Input((4,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    model.compile(optimizer="sgd", loss={"a": "mse", "b": "mae"})
    x, _ = data()
    seen = Seen()
    model.fit(x, {"a": x[:, :1], "b": x[:, 1:2]}, batch_size=40, epochs=3, verbose=0, callbacks=[seen])
    # Since Keras 3.5 those of the outputs, too.
    names = [name for name in ("loss", "a_loss", "b_loss") if name in seen.batches[0]]
    for name in names:
        assert np.allclose(record.values(f"batch_{name}"), record.values(name), rtol=1e-6)
        assert record.series(name) == seen.of_batches(name)
    if len(names) == 3:
        sums = np.add(record.values("batch_a_loss"), record.values("batch_b_loss"))
        assert np.allclose(record.values("batch_loss"), sums, rtol=1e-6)


@pytest.mark.skipif(not IS_TENSORFLOW, reason="of what TensorFlow has compiled")
def test_model_that_was_compiled_before() -> None:
    """Its steps write nothing down. Keras' values are there; why the others are not is told."""
    model = made()
    model.fit(*data(), batch_size=8, verbose=0)
    with watched() as record:
        model.fit(*data(), batch_size=8, verbose=0)
    assert len(record.series("loss")) == 5
    assert "batch_loss" not in record.names()
    assert any("autolog()" in note for note in record.notes)


def test_second_fit(record: Recording) -> None:
    """What a model's steps wrote outside of any fit belongs to none."""
    if BACKEND == "jax":
        pytest.skip("hidden in what JAX compiles")
    model = made()
    x, y = data()
    for _ in range(2):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        with record.suppress():
            model.train_on_batch(x[:8], y[:8])
    found = sorted(record.series("batch_loss"))
    assert [step for step, _ in found] == list(range(10))
    assert found[:5] == numbered(truth())
