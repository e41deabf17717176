"""Learning rates: what the optimizer had at each step, bit for bit; nothing of the training has changed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from integrations.keras.models import Seen, data, made, watched, weights
from integrations.recording import Recording


def rounded(*rates: float) -> list[float]:
    """As float32 has them."""
    return [float(np.float32(rate)) for rate in rates]


def changes(rates: list[float]) -> list[tuple[int, float]]:
    return [(step, rate) for step, rate in enumerate(rates) if step == 0 or rate != rates[step - 1]]


def look(record: Recording) -> None:
    """What is done beside the training now and then."""
    for regularly in record.rhythm._wanted:
        regularly.function()


class Asks(keras.callbacks.Callback):
    """A program's own callback, which asks for the rate before each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))


def test_a_rate_that_stays(record: Recording) -> None:
    """Once."""
    made().fit(*data(), batch_size=8, epochs=2, verbose=0)
    assert record.series("lr") == list(enumerate(rounded(0.1)))


def test_a_callback_that_sets_it(record: Recording) -> None:
    """By epoch; and a program's own by batch, in both ways to set it."""

    class Sets(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch == 2:
                self.model.optimizer.learning_rate = 0.03
            if batch == 3:
                self.model.optimizer.learning_rate.assign(0.04)

    by_epoch = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (epoch + 1))
    made().fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[by_epoch])
    assert record.series("lr") == [(0, *rounded(0.1)), (5, *rounded(0.05))]
    made().fit(*data(), batch_size=8, verbose=0, callbacks=[Sets()])
    assert record.series("lr")[2:] == list(zip((0, 2, 3), rounded(0.1, 0.03, 0.04), strict=True))


@pytest.mark.parametrize("compiled", [{}, {"run_eagerly": True}], ids=["plain", "eager"])
def test_schedule(record: Recording, compiled: dict[str, Any]) -> None:
    """At every step, also in a second fit; the weights are the same as without us. In what is compiled, the power may have another
    last digit than where the program's callback asks for it."""

    def train() -> tuple[list[bytes], list[float]]:
        schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
        model, asks = made(optimizer=keras.optimizers.SGD(schedule), **compiled), Asks()
        model.fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[asks])
        model.fit(*data(), batch_size=8, verbose=0, callbacks=[asks])
        return weights(model), asks.rates

    with record.suppress():
        alone, truth = train()
    assert len(truth) == 15
    assert train() == (alone, truth)
    look(record)
    backend = keras.backend.backend()
    if backend == "jax" or (backend == "tensorflow" and not compiled):
        found = record.series("lr")
        assert [step for step, _ in found] == list(range(15))
        assert np.allclose([rate for _, rate in found], truth, rtol=1e-6, atol=0)
    else:
        assert record.series("lr") == changes(truth)
    assert record.notes == []


def test_weight_decay_asks_more_often(record: Recording) -> None:
    """The rate of a step is one value, however often the optimizer asks."""
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2, 7], [0.1, 0.05, 0.01])
    made(optimizer=keras.optimizers.AdamW(schedule)).fit(*data(), batch_size=8, epochs=2, verbose=0)
    look(record)
    assert record.series("lr") == list(zip((0, 3, 8), rounded(0.1, 0.05, 0.01), strict=True))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a graph of TensorFlow")
def test_several_steps_in_one_execution(record: Recording) -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2, 7], [0.1, 0.05, 0.01])
    model, seen = made(optimizer=keras.optimizers.SGD(schedule), steps_per_execution=3), Seen()
    model.fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[seen])
    expected = list(zip((0, 3, 8), rounded(0.1, 0.05, 0.01), strict=True))
    found = record.series("lr")
    if len(seen.batches) == 4:
        assert found == expected
    else:
        # Keras 3.3 tells nothing of an execution that the end of the data cuts short, nor whether its steps asked for their rates.
        assert found == expected[: len(found)] != []
        assert found == expected or any("lr is left out" in note for note in record.notes)


def test_steps_that_are_not_ours_to_record(record: Recording) -> None:
    """What the schedule answered in between belongs to no step of the fit that comes after."""
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2, 7, 12], [0.1, 0.05, 0.01, 0.005])
    model = made(optimizer=keras.optimizers.SGD(schedule))
    model.fit(*data(), batch_size=8, verbose=0)
    with record.suppress():
        model.fit(*data(), batch_size=8, verbose=0)
    model.fit(*data(), batch_size=8, verbose=0)
    look(record)
    assert record.series("lr") == list(zip((0, 3, 5, 8), rounded(0.1, 0.05, 0.01, 0.005), strict=True))
    assert record.notes == []


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a graph of TensorFlow")
def test_compiled_before_us() -> None:
    """Missing, and said to be."""
    model = made(optimizer=keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)))
    model.fit(*data(), batch_size=8, verbose=0)
    with watched() as record:
        model.fit(*data(), batch_size=8, verbose=0)
    assert record.series("lr") == []
    assert "no lr: the model was compiled before autolog()" in record.notes


def test_two_optimizers(record: Recording) -> None:
    """Of a model that keeps another one for itself: each by its name."""
    model = made()
    model.other_optimizer = keras.optimizers.Adam(0.002)
    model.fit(*data(), batch_size=8, verbose=0)
    assert record.values("lr") == rounded(0.1)
    assert record.values("lr", optimizer="other_optimizer") == rounded(0.002)


def test_reduced_on_a_plateau(record: Recording) -> None:
    """The decision at the step after which it was taken, the rate from the next step on."""
    reduces = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=100.0)
    made().fit(*data(), batch_size=8, epochs=3, verbose=0, callbacks=[reduces])
    assert record.series("lr_reduced") == list(zip((9, 14), rounded(0.05, 0.025), strict=True))
    assert record.series("lr") == list(zip((0, 10), rounded(0.1, 0.05), strict=True))


def test_a_schedule_of_the_program(record: Recording) -> None:
    """It is asked as often as without us; on JAX, where nothing shows its answers, they are missing and that is said."""
    asked: list[int] = []

    class Own(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            asked.append(1)
            return 0.1 / (keras.ops.cast(step, "float32") + 1)

    def train() -> int:
        asked.clear()
        made(optimizer=keras.optimizers.SGD(Own())).fit(*data(), batch_size=8, verbose=0)
        look(record)
        return len(asked)

    with record.suppress():
        alone = train()
    assert train() == alone
    is_hidden = keras.backend.backend() == "jax"
    assert [step for step, _ in record.series("lr")] == ([] if is_hidden else [0, 1, 2, 3, 4])
    assert any(note.startswith("lr is left out") for note in record.notes) is is_hidden
