"""Whole programs and their data on the other backends: known data sets, arrays of JAX, loops of the program's own."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy

from programs import Programs, assert_conserved

PROGRAM = """
import looptap
looptap.autolog()
import jax, keras
assert keras.backend.backend() == "jax"
(x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x.reshape(-1, 784) / 255.0, y, batch_size=8, verbose=0, validation_split=0.25)
model.evaluate(jax.numpy.asarray(x_test.reshape(-1, 784) / 255.0), y_test, verbose=0)
model.fit(jax.numpy.ones((8, 784)), jax.numpy.ones((8,)), verbose=0)
import tensorflow as tf
model.evaluate(tf.data.Dataset.from_tensor_slices((tf.ones((8, 784)), tf.ones((8,)))).batch(2), verbose=0)
"""

BATCHES = """
import looptap
looptap.autolog()
import keras, numpy
assert keras.backend.backend() == "torch"
models = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]) for _ in range(2)]
for model in models:
    model.compile("sgd", "mse")
for size in (4, 4, 2):
    for model in models:
        model.train_on_batch(numpy.ones((size, 3), "float32"), numpy.ones((size, 1), "float32"))
"""


def fashion_mnist(folder: Path) -> None:
    """Where Keras looks for what it has downloaded. It checks no checksums of these."""
    folder.mkdir(parents=True)
    draw = numpy.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 8)):
        labels, pictures = draw.integers(0, 10, count, "uint8"), draw.integers(0, 256, count * 784, "uint8")
        with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(bytes(8) + labels.tobytes())
        with gzip.open(folder / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(bytes(16) + pictures.tobytes())


def by_role(record: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["role"], item["name"]): item for item in record["datasets"]}


def test_a_data_set_of_keras(programs: Programs) -> None:
    """Its arrays are known by their labels where the pictures were changed; arrays of JAX are looked into."""
    fashion_mnist(programs.folder / "keras" / "datasets" / "fashion-mnist")
    done = programs.python(PROGRAM, KERAS_BACKEND="jax", KERAS_HOME=str(programs.folder / "keras"))
    assert done.returncode == 0, done.stderr
    record = programs.record()
    told = by_role(record)
    train, validation, test = (told[role, "fashion_mnist"] for role in ("train", "validation", "test"))
    assert [(one["split"], one["length"]) for one in (train, validation, test)] == [
        ("train", 30),
        ("train", 10),
        ("test", 8),
    ]
    assert train["details"] == {"from": "keras.datasets", "validation_split": 0.25, "split_of": 40}
    assert test["schema"]["x"] == {"shape": [8, 784], "dtype": "float32"}
    assert test["class_name"] == "jax.Array"
    other = told["train", "Array"]
    assert len({one["fingerprint"] for one in (train, validation, test, other)} - {None}) == 4
    # Keras goes over a pipeline as a loop of the program would, which tells it no second time.
    assert set(told) == {
        *((role, "fashion_mnist") for role in ("train", "validation", "test")),
        ("test", "from_tensor_slices"),
        ("train", "Array"),
    }
    assert_conserved(record)


def test_batches_by_the_program(programs: Programs) -> None:
    """``train_on_batch``: what the batches are like, once, however many there are."""
    done = programs.python(BATCHES, KERAS_BACKEND="torch")
    assert done.returncode == 0, done.stderr
    ((key, told),) = by_role(programs.record()).items()
    assert key == ("train", "ndarray")
    assert (told["kind"], told["length"], told["fingerprint"]) == ("batches", None, None)
    assert told["schema"] == {
        "x": {"shape": [None, 3], "dtype": "float32"},
        "y": {"shape": [None, 1], "dtype": "float32"},
    }
    assert told["missing"] == "it is given batch by batch"
