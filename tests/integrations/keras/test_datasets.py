"""What ``fit`` and ``evaluate`` are fed with: roles, descriptions, fingerprints; nothing of the program's is called for that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy
import pandas
import pytest
import tensorflow
import torch
from torch.utils.data import DataLoader, TensorDataset

from integrations.recording import Recording, recorded
from looptap_integrations.keras import KerasIntegration
from looptap_integrations.numpy_files import NumpyFilesIntegration
from looptap_integrations.pandas import PandasIntegration
from looptap_integrations.tensorflow import TensorFlowIntegration
from looptap_integrations.torch import TorchIntegration

ALL = (KerasIntegration, TensorFlowIntegration, TorchIntegration, NumpyFilesIntegration, PandasIntegration)
X = numpy.arange(60, dtype="float32").reshape(20, 3) / 60
Y = numpy.arange(20, dtype="float32")
ROWS = {"shape": [20, 3], "dtype": "float32"}


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(*ALL) as recording:
        yield recording


def model(inputs: int = 3) -> Any:
    made = keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(1, kernel_initializer="ones")])
    made.compile("sgd", "mse")
    return made


def fit(*data: Any, **more: Any) -> None:
    model().fit(*data, **{"batch_size": 4, "epochs": 1, "verbose": 0, **more})


class Batches(keras.utils.PyDataset):
    """Counts what is asked of it."""

    def __init__(self, x: Any, y: Any, calls: list[str]) -> None:
        super().__init__(workers=1)
        self.x, self.y, self.calls, self.batch_size = x, y, calls, 5

    def __len__(self) -> int:
        self.calls.append("len")
        return 4

    def __getitem__(self, index: int) -> Any:
        self.calls.append(f"item {index}")
        chosen = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self.x[chosen], self.y[chosen]


class Counted(Batches):
    """As Keras' own guide has it."""

    def __len__(self) -> int:
        return math.ceil(len(self.x) / self.batch_size)


def test_arrays_and_their_roles(record: Recording) -> None:
    """What is trained on, what ``fit`` validates on and what is evaluated; equal arrays have equal fingerprints."""
    trained = model()
    trained.fit(X, Y, verbose=0, validation_data=(X + 1, Y))
    x_val = X + 1
    trained.evaluate(x_val, Y, verbose=0)
    trained.evaluate(X * 2, y=Y, verbose=0)
    data = record.datasets
    assert set(data) == {("train", "ndarray"), ("validation", "ndarray"), ("test", "ndarray")}
    train, validation, test = (data[role, "ndarray"] for role in ("train", "validation", "test"))
    assert (train.kind, train.class_name, train.length) == ("array", "numpy.ndarray", 20)
    assert train.schema == {"x": ROWS, "y": {"shape": [20], "dtype": "float32"}}
    assert train.covers == "sampled content"
    assert len({train.fingerprint, validation.fingerprint, test.fingerprint, None}) == 4
    with recorded(*ALL) as other:
        fit(x=X.copy(), y=Y, sample_weight=None)
        changed = X.copy()
        changed[-1, -1] += 1
        fit(changed, Y)
    assert other.datasets["train", "ndarray"].fingerprint == train.fingerprint
    assert other.datasets["train", "ndarray#2"].fingerprint not in (train.fingerprint, None)


def test_several_inputs_and_tables(record: Recording) -> None:
    """Each array by where it is; tables and their columns as arrays are."""
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((3,), name="b")}
    joined = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Concatenate()(list(inputs.values()))))
    joined.compile("sgd", "mse")
    joined.fit({"a": X, "b": tensorflow.constant(X)}, Y, sample_weight=numpy.ones(20), verbose=0)
    told = record.datasets["train", "ndarray"]
    assert list(told.schema) == ["x.a", "x.b", "y", "sample_weight"]
    assert told.schema["x.a"] == told.schema["x.b"] == ROWS
    assert told.fingerprint is not None
    table = pandas.DataFrame(X, columns=["p", "q", "r"])
    table["label"] = Y
    fit(table[["p", "q", "r"]], table["label"])
    told = record.datasets["train", "DataFrame"]
    assert (told.kind, told.length) == ("table", 20)
    assert told.schema == {"x": dict.fromkeys("pqr", "float32"), "y": {"label": "float32"}}
    assert told.fingerprint is not None


def test_a_share_that_is_held_out(record: Recording) -> None:
    """Keras trains on the first items and validates on the rest: data of their own, told apart from the whole."""
    fit(X, Y, validation_split=0.25)
    fit(X, Y)
    train, validation = record.datasets["train", "ndarray"], record.datasets["validation", "ndarray"]
    assert (train.length, validation.length) == (15, 5)
    assert train.details == validation.details == {"validation_split": 0.25, "split_of": 20}
    whole = record.datasets["train", "ndarray#2"]
    assert whole.length == 20
    assert len({train.fingerprint, validation.fingerprint, whole.fingerprint, None}) == 4


def test_data_sets_of_libraries(record: Recording) -> None:
    """A pipeline of tf.data and a DataLoader of PyTorch, each told once, by what is inside."""
    pipeline = tensorflow.data.Dataset.from_tensor_slices((X, Y)).shuffle(20).batch(4)
    fit(pipeline, batch_size=None, validation_data=pipeline.take(2))
    train = record.datasets["train", "from_tensor_slices"]
    assert (train.kind, train.length, train.details["batch_size"], train.details["cardinality"]) == (
        "tf.data",
        20,
        4,
        5,
    )
    fit(X, Y)
    assert record.datasets["train", "ndarray"].fingerprint == train.fingerprint
    assert record.datasets["validation", "from_tensor_slices"].fingerprint not in (train.fingerprint, None)
    record.datasets.clear()
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=4)
    fit(loader, batch_size=None)
    model().evaluate(loader, verbose=0)
    assert [(role, told.name, told.length) for (role, _), told in record.datasets.items()] == [
        ("train", "TensorDataset", 20),
        ("test", "TensorDataset", 20),
    ]


def test_data_sets_of_the_programs(record: Recording) -> None:
    """A PyDataset by its attributes, a generator by its name."""

    def batches() -> Iterator[Any]:
        while True:
            yield X, Y

    fit(Batches(X, Y, []), batch_size=None)
    told = record.datasets["train", "Batches"]
    assert (told.kind, told.length) == ("keras", None)
    assert told.details["batch_size"] == 5
    assert told.schema == {"x": ROWS, "y": {"shape": [20], "dtype": "float32"}}
    assert told.fingerprint is not None
    fit(Counted(X, Y, []), batch_size=None)
    counted = record.datasets.pop(("train", "Counted"))
    assert counted.details == {
        "batches": 4,
        "batch_size": 5,
        "workers": 1,
        "use_multiprocessing": False,
        "max_queue_size": 10,
    }
    fit(batches(), batch_size=None, steps_per_epoch=2)
    ((_, name),) = [key for key in record.datasets if key[1] != "Batches"]
    told = record.datasets["train", name]
    assert name.endswith("batches")
    assert (told.kind, told.fingerprint) == ("generator", None)
    assert told.missing == "what a generator gives is not known before it is read"


def endless(calls: list[str]) -> Any:
    def items() -> Iterator[Any]:
        for number in range(10**9):
            calls.append(f"element {number}")
            yield X[number % 20], Y[number % 20]

    spec = (tensorflow.TensorSpec((3,), "float32"), tensorflow.TensorSpec((), "float32"))
    return tensorflow.data.Dataset.from_generator(items, output_signature=spec).repeat().batch(4)


def whole_training() -> list[Any]:
    """All that could differ with and without us: what was asked of the data, random states, weights."""
    keras.utils.set_random_seed(1)
    calls: list[str] = []

    def once() -> Iterator[Any]:
        calls.append("generator")
        yield X, Y

    # TensorFlow reads ahead as far as it gets, so that what it asks for is another number each time.
    stream = endless([])
    trained = model()
    trained.fit(Batches(X, Y, calls), verbose=0)
    trained.fit(once(), steps_per_epoch=1, verbose=0)
    trained.fit(stream, steps_per_epoch=2, verbose=0, validation_data=stream, validation_steps=1)
    trained.evaluate(X, Y, verbose=0)
    return [sorted(calls), str(numpy.random.get_state()), *(weights.tolist() for weights in trained.get_weights())]


def test_nothing_is_iterated() -> None:
    """The same calls, the same random states and the same weights, with and without us."""
    without = whole_training()
    with recorded(*ALL) as recording:
        assert whole_training() == without
    assert {role for role, _ in recording.datasets} == {"train", "validation", "test"}


def test_looking_at_what_never_ends(record: Recording) -> None:
    """Neither a data set without an end nor one that would have to be counted is asked for anything."""
    calls: list[str] = []
    told = record.describers.describe(endless(calls))
    assert (told.length, told.details["cardinality"], told.details["batch_size"]) == (None, "infinite", 4)
    record.describers.describe(Batches(X, Y, calls))
    assert calls == []


def test_errors_are_the_users(record: Recording) -> None:
    """What Keras refuses it refuses with us, too, and it is no data."""
    for wrong in ({"x": X, "y": Y, "nothing": 1}, {"x": object()}, {"x": X, "y": Y[:3]}):
        with pytest.raises((TypeError, ValueError)):
            model().fit(**wrong, verbose=0)
    assert record.datasets == {}
