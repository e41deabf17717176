"""What a training leaves for serving to be compared with: from ``predict``, and from evaluations."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest

import looptap
from integrations.keras.models import data, made
from integrations.recording import Recording
from looptap.events import Window
from looptap.sketches import distribution

HANDS_OUT = keras.backend.backend() != "jax"
COMPILED: dict[str, list[dict[str, Any]]] = {
    "tensorflow": [{"jit_compile": True}, {"jit_compile": False}, {"steps_per_execution": 3}, {"run_eagerly": True}],
    "jax": [{"jit_compile": False}],
    "torch": [{"run_eagerly": True}],
}


def left(record: Recording) -> dict[str | None, Window]:
    """By split, once all are made; the latest of each."""
    for thread in threading.enumerate():
        if thread.name == "looptap-reference":
            thread.join()
    return {window.split: window for window in record.windows}


def classes(told: Mapping[str, bytes]) -> Counter[str]:
    return distribution.decode(told["class"]).classes


def greatest(scores: Any) -> Counter[str]:
    return Counter(map(str, np.asarray(scores).argmax(1).tolist()))


def test_predictions(record: Recording) -> None:
    """All rows of them, as the program calls the data; their labels are unknown."""
    model = made()
    model.fit(*data(), verbose=0)
    x_test, _ = data(1_000, seed=5)
    scores = model.predict(x_test, verbose=0)
    truth = greatest(scores)
    scores[:] = 0.0  # the program's own from here on
    model.predict(np.concatenate([x_test, x_test]), verbose=0)
    found = left(record)
    assert set(found) == {"test", "predict"}
    assert classes(found["test"].predictions) == truth
    assert classes(found["predict"].predictions) == truth + truth
    assert found["test"].labels == {}


def test_many_predictions(record: Recording) -> None:
    """Of more rows than are kept, those that are lie all over them."""
    model = made()
    model.fit(*data(), verbose=0)
    x, _ = data(9_000, seed=5)
    scores = model.predict(np.sort(x, axis=0), verbose=0)
    found = classes(left(record)["predict"].predictions)
    truth = greatest(scores)
    assert 200 < found.total() <= 9_000
    for name, count in truth.items():
        assert abs(found[name] / found.total() - count / 9_000) < 0.02


def test_named_outputs(record: Recording) -> None:
    """Each under its name, as what serving answers."""
    given = keras.Input((4,))
    # Before Keras 3.4 losses go by the names of the layers.
    layers = [keras.layers.Dense(3, "softmax", name="wants"), keras.layers.Dense(1, name="much")]
    model = keras.Model(given, {layer.name: layer(given) for layer in layers})
    model.compile("sgd", {"wants": "mse", "much": "mse"})
    x, _ = data(300)
    model.fit(x, {"wants": np.zeros((300, 3)), "much": np.zeros((300, 1))}, verbose=0)
    model.predict(x, verbose=0)
    found = left(record)["predict"].predictions
    assert set(found) == {"wants.class", "wants.confidence", "much.value"}
    assert len(distribution.decode(found["much.value"]).numbers) == 300


def test_what_is_no_reference(record: Recording) -> None:
    """Few rows, sequences, a model that was not trained, or not last, and one before its training."""
    model, other = made(), made(seed=1)
    x, _ = data(300)
    model.predict(x, verbose=0)
    model.fit(*data(), verbose=0)
    other.predict(x, verbose=0)
    model.predict(x[:199], verbose=0)
    sequences = keras.Sequential([keras.Input((5, 4)), keras.layers.Dense(3)])
    sequences.compile("sgd", "mse")
    other.fit(*data(), verbose=0)
    model.predict(x, verbose=0)
    sequences.fit(np.zeros((300, 5, 4)), np.zeros((300, 5, 3)), verbose=0)
    sequences.predict(np.zeros((300, 5, 4)), verbose=0)
    assert left(record) == {}


def test_evaluations(record: Recording) -> None:
    """Of a fit, that of the last epoch; also one by itself. Training is none."""
    model = made()
    x_val, y_val = data(300, seed=2)
    x_test, y_test = data(250, seed=3)
    model.fit(*data(400), validation_data=(x_val, y_val), epochs=2, verbose=0)
    model.evaluate(x_test, y_test, verbose=0)
    found = left(record)
    assert set(found) == ({"validation", "test"} if HANDS_OUT else set())
    for split, x, y in (("validation", x_val, y_val), ("test", x_test, y_test)):
        if split in found:
            assert classes(found[split].predictions) == greatest(keras.ops.convert_to_numpy(model(x)))
            assert classes(found[split].labels) == Counter(map(str, y.tolist()))


@pytest.mark.parametrize("compiled", COMPILED[keras.backend.backend()], ids=str)
def test_evaluations_however_compiled(record: Recording, compiled: dict[str, Any]) -> None:
    """With labels of one row each of zeros and a one, and a pass that ends in a shorter batch."""
    model = made()
    x, y = data(100, seed=2)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), **compiled)
    scores = keras.utils.to_categorical(y, model.output_shape[-1])
    model.fit(x, scores, verbose=0)
    model.evaluate(x, scores, verbose=0)
    found = left(record)["test"]
    assert classes(found.predictions) == greatest(keras.ops.convert_to_numpy(model(x)))
    assert classes(found.labels) == Counter(map(str, y.tolist()))


def test_a_long_evaluation(record: Recording) -> None:
    """Of 300 batches, rows lie all over them; the evaluation answers the same as without us."""
    model = made()
    model.fit(*data(), verbose=0)
    x, y = data(9_600, seed=5)
    order = np.argsort(x[:, 0])
    x, y = x[order], y[order]
    told = model.evaluate(x, y, verbose=0, batch_size=32)
    if not HANDS_OUT:
        return
    window = left(record)["test"]
    truth = greatest(keras.ops.convert_to_numpy(model(x)))
    found = classes(window.predictions)
    assert window.requests == 300
    assert 2_000 <= found.total() <= 9_600
    for name, count in truth.items():
        assert abs(found[name] / found.total() - count / 9_600) < 0.05
    looptap.stop()
    assert model.evaluate(x, y, verbose=0, batch_size=32) == told
