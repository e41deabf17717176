"""``train_on_batch``: the program's own loop. A step is a batch; models that are trained in turns share their rounds."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from integrations.keras.models import data, made, watched, weights
from integrations.recording import Recording


def test_values_of_every_batch(record: Recording) -> None:
    """Under Keras' names, as a list, as a dict, by position; the program gets what it always got."""
    model = made()
    x, y = data()
    told = [model.train_on_batch(x[:8], y[:8]), model.train_on_batch(x=x[8:16], y=y[8:16])]
    by_name = model.train_on_batch(x[16:24], y[16:24], None, None, True)
    losses = [*(float(loss) for loss, _ in told), by_name["loss"]]
    assert record.series("loss") == list(enumerate(losses))
    assert record.series("accuracy") == list(
        enumerate([*(float(accuracy) for _, accuracy in told), by_name["accuracy"]])
    )
    assert record.step == 2
    assert record.names() == {"loss", "accuracy", "lr"}


def test_learning_rate(record: Recording) -> None:
    """That of the step, when it is another one; of a schedule it is missing."""
    model = made()
    for rate in (None, None, 0.03, 0.03, 0.02):
        if rate is not None:
            model.optimizer.learning_rate = rate
        model.train_on_batch(*data(8))
    expected = [float(np.float32(rate)) for rate in (0.1, 0.03, 0.02)]
    assert record.series("lr") == list(zip((0, 2, 4), expected, strict=True))
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss="sparse_categorical_crossentropy")
    model.train_on_batch(*data(8))
    assert record.series("lr")[3:] == [(5, 0.5)]
    scheduled = made(optimizer=keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)))
    count = len(record.points)
    scheduled.train_on_batch(*data(8))
    assert "lr" not in {key for key, *_ in record.points[count:]}


def test_learning_rates_of_models_in_turns(record: Recording) -> None:
    """The one that came first keeps the plain series; a new run is told anew."""
    first, second = made(0), made(1, optimizer=keras.optimizers.SGD(0.2))
    for _ in range(3):
        first.train_on_batch(*data(8))
        second.train_on_batch(*data(8))
    second.optimizer.learning_rate = first.optimizer.learning_rate = 0.01
    first.train_on_batch(*data(8))
    second.train_on_batch(*data(8))
    assert record.series("lr") == [(0, float(np.float32(0.1))), (3, float(np.float32(0.01)))]
    assert record.series("lr", model=second.name) == [(0, float(np.float32(0.2))), (3, float(np.float32(0.01)))]


def one_loss(told: Any) -> float:
    return float(told[0] if isinstance(told, list) else told)  # before Keras 3.6 a list of one


def test_one_value(record: Recording) -> None:
    """Without metrics Keras gives a single number."""
    model = made(metrics=None)
    loss = model.train_on_batch(*data(8))
    assert record.series("loss") == [(0, one_loss(loss))]


def test_numbers_are_the_same_without_us() -> None:
    def train() -> list[bytes]:
        model = made()
        for seed in range(3):
            model.train_on_batch(*data(8, seed))
        return weights(model)

    alone = train()
    with watched() as record:
        assert train() == alone
    assert len(record.series("loss")) == 3


def test_after_a_fit(record: Recording) -> None:
    """Its steps follow, and those of a fit afterwards follow them."""
    model = made()
    model.fit(*data(), batch_size=8, verbose=0)
    model.train_on_batch(*data(8))
    model.train_on_batch(*data(8))
    model.fit(*data(16), batch_size=8, verbose=0)
    assert sorted(step for step, _ in record.series("loss")) == list(range(9))
    assert record.generation == 1


def test_models_in_turns(record: Recording) -> None:
    """A GAN: a generator, a discriminator, and both as one. Each round has one number; who is second in it goes by its name."""
    keras.utils.set_random_seed(0)
    generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)], name="generator")
    discriminator = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)], name="discriminator")
    discriminator.compile(optimizer="sgd", loss="mse")
    gan = keras.Sequential([keras.Input((2,)), generator, discriminator], name="gan")
    gan.compile(optimizer="sgd", loss="mse")
    real, noise = data(8)[0], np.ones((8, 2), "float32")
    told: list[tuple[float, float]] = []
    for _ in range(3):
        on_real = discriminator.train_on_batch(real, np.ones((8, 1)))
        # In Keras 3.3 the list that it gives otherwise has the loss of the model inside, too.
        of_both = gan.train_on_batch(noise, np.ones((8, 1)), return_dict=True)
        told.append((float(on_real), float(of_both["loss"])))
    assert record.series("loss") == list(enumerate([first for first, _ in told]))
    assert record.series("loss", model="gan") == list(enumerate([second for _, second in told]))
    assert record.step == 2


def test_failed_batch(record: Recording) -> None:
    """The program's own error, and no step."""
    model = made()
    x, y = data(8)
    model.train_on_batch(x, y)
    with pytest.raises(Exception, match=r".+"):
        model.train_on_batch(np.ones((8, 9)), y)
    model.train_on_batch(x, y)
    assert [step for step, _ in record.series("loss")] == [0, 1]


def test_suppressed(record: Recording) -> None:
    model = made()
    with record.suppress():
        model.train_on_batch(*data(8))
    assert record.points == []


def test_inside_of_a_fit(record: Recording) -> None:
    """Another model that a callback trains is recorded beside the fit."""
    other = made(1, metrics=None)
    told: list[float] = []

    class Trains(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            told.append(one_loss(other.train_on_batch(*data(8))))

    made().fit(*data(), batch_size=8, verbose=0, callbacks=[Trains()])
    assert record.series("loss", model=other.name) == list(enumerate(told))
    assert [step for step, _ in record.series("loss")] == [0, 1, 2, 3, 4]
    assert record.step == 4
