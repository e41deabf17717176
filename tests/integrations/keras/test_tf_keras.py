"""tf-keras, which is Keras 2, on TensorFlow: what its callbacks see, and what was set how."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from integrations.recording import Recording, recorded
from looptap.sketches import distribution
from looptap_integrations.keras import TfKerasIntegration
from looptap_integrations.tensorflow import TensorFlowIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TensorFlowIntegration, TfKerasIntegration) as recording:
        yield recording


def data(count: int = 40, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 4)).astype("float32")
    return x, (x.sum(axis=1) > 0).astype("int32")


def made(**compiled: Any) -> Any:
    tf_keras.utils.set_random_seed(3)
    model = tf_keras.Sequential([tf_keras.layers.Dense(5, input_shape=(4,), name="first"), tf_keras.layers.Dense(2)])
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    settings = {"optimizer": tf_keras.optimizers.SGD(0.1), "loss": loss, "metrics": ["accuracy"], **compiled}
    model.compile(**settings)
    return model


class Seen(tf_keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[dict[str, float]] = []
        self.epochs: list[dict[str, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches.append(dict(logs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(dict(logs))


def rounded(*rates: float) -> list[float]:
    return [float(np.float32(rate)) for rate in rates]


def test_every_batch_and_every_epoch(record: Recording) -> None:
    """Bit for bit what a callback of the program sees, each value once, and the program's list as it was."""
    seen = Seen()
    mine = [seen]
    made().fit(*data(), batch_size=8, epochs=2, validation_data=data(16, 1), callbacks=mine, verbose=0)
    assert mine == [seen]
    assert len(seen.batches) == 10
    for name in ("loss", "accuracy"):
        assert record.series(name) == list(enumerate(logs[name] for logs in seen.batches))
        for key, told in ((f"epoch_{name}", name), (f"val_{name}", f"val_{name}")):
            assert record.series(key) == list(zip((4, 9), [logs[told] for logs in seen.epochs], strict=True))
    assert record.series("epoch") == [(0, 0.0), (5, 1.0)]
    names = {"loss", "accuracy", "epoch_loss", "epoch_accuracy", "val_loss", "val_accuracy", "epoch", "step_time", "lr"}
    assert record.names() == names
    assert record.step == 9


def test_without_callbacks_and_again(record: Recording) -> None:
    """Numbers are those of a training without us; a second fit goes on."""

    def train() -> tuple[list[bytes], list[float]]:
        model = made()
        losses = [loss for _ in range(2) for loss in model.fit(*data(), batch_size=8, verbose=0).history["loss"]]
        return [weight.tobytes() for weight in model.get_weights()], losses

    with record.suppress():
        alone = train()
    assert record.points == []
    assert train() == alone
    assert record.series("epoch_loss") == list(zip((4, 9), alone[1], strict=True))
    assert len(record.series("loss")) == 10


def test_several_steps_in_one_execution(record: Recording) -> None:
    """The values stand at the last step of each execution."""
    seen = Seen()
    made(steps_per_execution=3).fit(*data(), batch_size=8, epochs=2, callbacks=[seen], verbose=0)
    assert record.series("loss") == list(zip((2, 4, 7, 9), [logs["loss"] for logs in seen.batches], strict=True))


def test_evaluate_predict_and_train_on_batch(record: Recording) -> None:
    model = made()
    told = [model.train_on_batch(*data(8, seed)) for seed in range(2)]
    assert record.series("loss") == [(step, float(loss)) for step, (loss, _) in enumerate(told)]
    assert record.series("accuracy") == [(step, float(accuracy)) for step, (_, accuracy) in enumerate(told)]
    x_test, y_test = data(16, 5)
    loss, _ = model.evaluate(x_test, y_test, verbose=0)
    assert record.series("test/loss") == [(1, loss)]
    model.predict(x_test, verbose=0)
    assert len(record.series("predict/time")) == 1


def test_learning_rates(record: Recording) -> None:
    """Of a schedule at every step, set by a callback, and reduced on a plateau."""
    schedule = tf_keras.optimizers.schedules.PiecewiseConstantDecay([2, 7], [0.1, 0.05, 0.01])
    made(optimizer=tf_keras.optimizers.Adam(schedule)).fit(*data(), batch_size=8, epochs=2, verbose=0)
    assert record.series("lr") == list(zip((0, 3, 8), rounded(0.1, 0.05, 0.01), strict=True))
    record.points.clear()
    record.new_run()
    sets = tf_keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (epoch + 1))
    made().fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[sets])
    assert record.series("lr") == list(zip((0, 5), rounded(0.1, 0.05), strict=True))
    record.points.clear()
    record.new_run()
    reduces = tf_keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=100.0)
    made().fit(*data(), batch_size=8, epochs=3, verbose=0, callbacks=[reduces])
    assert record.series("lr_reduced") == list(zip((9, 14), rounded(0.05, 0.025), strict=True))


def test_facts_and_decisions(record: Recording) -> None:
    stops = tf_keras.callbacks.EarlyStopping(monitor="loss", patience=1, min_delta=100.0)
    made().fit(*data(), batch_size=8, epochs=9, verbose=0, callbacks=[stops])
    params = record.params_by_key()
    assert params["keras.version"] == tf_keras.__version__
    assert params["tensorflow.version"] == tf.__version__
    assert params["seed.tensorflow"] == 3
    assert params["optimizer.class"].endswith("SGD")
    assert abs(params["optimizer.learning_rate"] - 0.1) < 1e-7
    assert params["model.parameters"] == 37
    assert params["model.layers"][0] == "first: Dense, 25 parameters, (None, 5)"
    assert params["loss"].startswith("SparseCategoricalCrossentropy(")
    assert params["fit.batch_size"] == 8
    assert params["EarlyStopping.patience"] == 1
    assert params["EarlyStopping.stopped_epoch"] == params["fit.stopped_epoch"] == 1
    assert record.datasets
    assert [note for note in record.notes if "incomplete" in note] == []


def test_a_callback_that_raises(record: Recording) -> None:
    """The program's own error; the next fit is recorded."""

    class Raises(tf_keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise RuntimeError("mine")

    model = made()
    with pytest.raises(RuntimeError, match="mine"):
        model.fit(*data(), batch_size=8, verbose=0, callbacks=[Raises()])
    model.fit(*data(), batch_size=8, verbose=0)
    assert [step for step, _ in record.series("loss")] == list(range(6))


def test_an_evaluation_is_what_serving_is_compared_with(record: Recording) -> None:
    """Its predictions and labels, out of the compiled test function."""
    model = made()
    x, y = data(100, 1)
    model.fit(*data(), verbose=0)
    model.evaluate(x, y, verbose=0)
    for thread in threading.enumerate():
        if thread.name == "looptap-reference":
            thread.join()
    (window,) = record.windows
    truth = np.asarray(model(x)).argmax(1)
    assert distribution.decode(window.predictions["class"]).classes == Counter(map(str, truth.tolist()))
    assert distribution.decode(window.labels["class"]).classes == Counter(map(str, y.tolist()))
