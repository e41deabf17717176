"""``evaluate`` and ``predict``, by themselves and inside of a fit."""

from __future__ import annotations

from typing import Any

import keras

from integrations.keras.models import Seen, data, made
from integrations.recording import Recording


def test_evaluation_after_a_fit(record: Recording) -> None:
    """Stands at the last step as test/…, or as the program calls the data; it gives what it always gave."""
    model = made()
    model.fit(*data(), batch_size=8, verbose=0)
    held_out, labels = data(16, seed=1)
    loss, accuracy = model.evaluate(held_out, labels, verbose=0)
    assert record.series("test/loss") == [(4, loss)]
    assert record.series("test/accuracy") == [(4, accuracy)]
    x_val, y_val = data(16, seed=2)
    told = model.evaluate(x_val, y_val, verbose=0, return_dict=True)
    assert record.series("validation/loss") == [(4, told["loss"])]
    x_train, y_train = data()
    told = model.evaluate(x=x_train, y=y_train, verbose=0, return_dict=True)
    assert record.series("train/loss") == [(4, told["loss"])]
    assert len(record.series("loss")) == 5


def test_evaluation_alone(record: Recording) -> None:
    """Without any training each counts its own."""
    model = made()
    truth = [model.evaluate(*data(16, seed=seed), verbose=0)[0] for seed in range(2)]
    assert record.series("test/loss") == list(enumerate(truth))
    assert record.step == -1


def test_evaluation_in_a_callback(record: Recording) -> None:
    """While a fit is under way, at its step; the fit's own validation is none of these."""
    found: list[float] = []

    class Evaluates(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            found.append(self.model.evaluate(*data(16, seed=3), verbose=0)[0])

    seen = Seen()
    made().fit(*data(), batch_size=8, epochs=2, validation_split=0.2, verbose=0, callbacks=[Evaluates(), seen])
    assert record.series("test/loss") == list(zip((3, 7), found, strict=True))
    assert record.series("loss") == seen.of_batches("loss")
    assert len(record.series("val_loss")) == 2


def test_prediction(record: Recording) -> None:
    """By itself it is no run; after a fit it has a time. Nothing of it is a loss."""
    model = made()
    model.predict(data()[0], verbose=0)
    assert record.points == []
    assert record.generation == 0
    model.fit(*data(), batch_size=8, verbose=0)
    before = record.names()
    assert model.predict(data()[0], verbose=0).shape == (40, 3)
    assert record.names() - before == {"predict/time"}
    (time,) = record.series("predict/time")
    assert time[0] == 4
    assert time[1] > 0
