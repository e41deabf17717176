"""Models and data that the tests of Keras train, on whatever backend this process has."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from integrations.recording import Recording, recorded
from looptap_integrations.keras import KerasIntegration


def watched() -> AbstractContextManager[Recording]:
    """By the integration of Keras, and on PyTorch by the one below it, too."""
    if keras.backend.backend() != "torch":
        return recorded(KerasIntegration)
    from looptap_integrations.torch import TorchIntegration

    return recorded(TorchIntegration, KerasIntegration)


def data(count: int = 40, seed: int = 0) -> tuple[Any, Any]:
    """Four features and one of three classes."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 4)).astype("float32")
    return x, (x.sum(axis=1) > 0).astype("int32") + (x[:, 0] > 1).astype("int32")


def made(seed: int = 0, **compiled: Any) -> Any:
    """A small classifier, compiled; the same seed gives the same weights."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(**{"optimizer": keras.optimizers.SGD(0.1), "loss": loss, "metrics": ["accuracy"], **compiled})
    return model


class Seen(keras.callbacks.Callback):
    """A program's own callback, which writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[dict[str, float]] = []
        self.epochs: list[dict[str, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches.append(dict(logs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(dict(logs))

    def of_batches(self, name: str, first: int = 0) -> list[tuple[int, float]]:
        """(step, value)."""
        return list(enumerate([logs[name] for logs in self.batches], first))


def weights(model: Any) -> list[bytes]:
    return [np.asarray(keras.ops.convert_to_numpy(weight)).tobytes() for weight in model.weights]
