"""What was set how: as params of the run, written down once."""

from __future__ import annotations

from typing import Any

import keras

from integrations.keras.models import data, made
from integrations.recording import Recording

BACKEND = keras.backend.backend()


def test_process(record: Recording) -> None:
    made(seed=11).fit(*data(), batch_size=8, verbose=0)
    params = record.params_by_key()
    assert params["keras.version"] == keras.__version__
    assert params["keras.backend"] == BACKEND
    assert params[f"{BACKEND}.version"].count(".") >= 1
    assert params["keras.float"] == "float32"
    if hasattr(keras.utils, "get_random_seed") or "seed.keras" in params:
        assert params["seed.keras"] == 11
    if BACKEND == "tensorflow":
        assert params["seed.tensorflow"] == 11
        assert params["deterministic.tensorflow"] is False


def test_optimizer_and_schedule(record: Recording) -> None:
    """Class and config; of a schedule too."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)
    made(optimizer=keras.optimizers.SGD(schedule, momentum=0.9)).fit(*data(), batch_size=8, verbose=0)
    params = record.params_by_key()
    assert params["optimizer.class"].endswith("SGD")
    assert params["optimizer.momentum"] == 0.9
    assert params["optimizer.nesterov"] is False
    assert params["optimizer.learning_rate.class"] == "ExponentialDecay"
    assert params["optimizer.learning_rate.initial_learning_rate"] == 0.1
    assert params["optimizer.learning_rate.decay_steps"] == 3
    assert "optimizer.name" not in params
    assert "optimizer.clipnorm" not in params


def test_a_schedule_that_does_not_tell_its_settings(record: Recording) -> None:
    """As in many tutorials. The class of the optimizer and what the model was compiled with are there, and what is not is said."""

    class Own(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return 0.1

    made(optimizer=keras.optimizers.SGD(Own())).fit(*data(), batch_size=8, verbose=0)
    params = record.params_by_key()
    assert params["optimizer.class"].endswith("SGD")
    assert params["optimizer.learning_rate.class"] == "Own"
    assert params["loss"].startswith("SparseCategoricalCrossentropy(")
    assert params["metrics"] == ["accuracy"]
    assert any(note.startswith("settings of SGD are left out") for note in record.notes)


def test_rate_and_other_optimizers(record: Recording) -> None:
    model = made()
    model.other_optimizer = keras.optimizers.Adam(0.002, beta_1=0.8)
    model.fit(*data(), batch_size=8, verbose=0)
    params = record.params_by_key()
    assert abs(params["optimizer.learning_rate"] - 0.1) < 1e-7
    assert params["other_optimizer.beta_1"] == 0.8


def test_loss_and_metrics(record: Recording) -> None:
    """As one would write them: names, and objects with what was given to them."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = made(loss=loss, metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(k=2)])
    model.fit(*data(), batch_size=8, verbose=0)
    params = record.params_by_key()
    assert params["loss"].startswith("SparseCategoricalCrossentropy(")
    assert "from_logits=True" in params["loss"]
    assert params["metrics"][0] == "accuracy"
    assert params["metrics"][1].startswith("SparseTopKCategoricalAccuracy(k=2")
    assert params["model.run_eagerly"] is False
    assert params["model.steps_per_execution"] == 1
    assert isinstance(params["model.jit_compile"], bool)


def test_a_loss_of_the_program(record: Recording) -> None:
    def far(truth: Any, found: Any) -> Any:
        return keras.ops.mean(found)

    made(loss=far, metrics=None).fit(*data(), batch_size=8, verbose=0)
    assert record.params_by_key()["loss"].endswith("far")
    assert record.notes == []


def test_model(record: Recording) -> None:
    """Class, weights, types, and a line for each layer, of inner models too."""
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="first")], name="inner")
    half = keras.layers.Dense(3, dtype="mixed_bfloat16", name="second")
    inner.trainable = False
    model = keras.Sequential([keras.Input((4,)), inner, half], name="outer")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data(), batch_size=8, verbose=0)
    params = record.params_by_key()
    assert params["model.class"].endswith("Sequential")
    assert params["model.name"] == "outer"
    assert params["model.parameters"] == 25 + 18
    assert params["model.parameters_trainable"] == 18
    assert params["model.dtype_policy"] == ["float32", "mixed_bfloat16"]
    lines = params["model.layers"]
    assert lines[-2:] == ["first: Dense, 25 parameters, (None, 5), frozen", "second: Dense, 18 parameters, (None, 3)"]


def test_where_it_computes(record: Recording) -> None:
    made().fit(*data(), batch_size=8, verbose=0)
    assert record.params_by_key()["model.device"] == "cpu"


def test_a_model_of_many_layers(record: Recording) -> None:
    """There is a line for a hundred of them, the last of which tells how many more there are."""
    model = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(3) for _ in range(103))])
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy", run_eagerly=True)
    model.fit(*data(8), batch_size=8, verbose=0)
    lines = record.params_by_key()["model.layers"]
    assert len(lines) == 100
    assert lines[-1] == "and 4 more"


def test_a_model_without_weights_before_its_first_batch(record: Recording) -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.layer = keras.layers.Dense(3, name="layer")

        def call(self, x: Any) -> Any:
            return self.layer(x)

    model = Own()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data(), batch_size=8, verbose=0)
    params = record.params_by_key()
    assert params["model.class"].endswith("Own")
    assert params["model.parameters"] == 15
    assert [line.split(",")[0] for line in params["model.layers"]] == ["layer: Dense"]


def test_once_and_by_model(record: Recording) -> None:
    """A second fit repeats nothing; a second model in the run goes by its name; another run has all of it again."""
    first, second = made(), made()
    with record.cover():
        first.fit(*data(), batch_size=8, verbose=0)
        first.fit(*data(), batch_size=8, verbose=0)
        first.train_on_batch(*data(8))
    keys = [key for key, _, _ in record.written]
    assert keys.count("optimizer.class") == keys.count("model.parameters") == keys.count("keras.version") == 1
    second.train_on_batch(*data(8))
    assert record.params_by_key()[f"{second.name}.parameters"] == 43
    record.new_run()
    second.train_on_batch(*data(8))
    assert [key for key, _, _ in record.written].count("model.parameters") == 2


def test_decisions(record: Recording) -> None:
    """Which callbacks there were and what they were given; that the training was stopped, when, and which epoch was the best."""
    stops = keras.callbacks.EarlyStopping(monitor="loss", patience=1, min_delta=100.0)
    history = made().fit(*data(), batch_size=8, epochs=9, verbose=0, callbacks=[stops])
    params = record.params_by_key()
    assert params["fit.callbacks"] == ["EarlyStopping"]
    assert params["EarlyStopping.monitor"] == "loss"
    assert params["EarlyStopping.patience"] == 1
    assert params["EarlyStopping.restore_best_weights"] is False
    assert len(history.epoch) == 2
    assert params["EarlyStopping.stopped_epoch"] == params["fit.stopped_epoch"] == 1
    assert params["EarlyStopping.best_epoch"] == 0
    assert params["EarlyStopping.best"] == history.history["loss"][0]


def test_stopped_by_the_program(record: Recording) -> None:
    class Stops(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = epoch == 1

    made().fit(*data(), batch_size=8, epochs=5, verbose=0, callbacks=[Stops()])
    params = record.params_by_key()
    assert params["fit.callbacks"] == ["Stops"]
    assert params["fit.stopped_epoch"] == 1
    assert not any(key.startswith("Stops.") for key in params)


def test_no_decision(record: Recording) -> None:
    """Nothing is told of what did not happen."""
    stops = keras.callbacks.EarlyStopping(monitor="loss", patience=5)
    made().fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[stops])
    params = record.params_by_key()
    assert "fit.stopped_epoch" not in params
    assert "EarlyStopping.stopped_epoch" not in params
    assert params["EarlyStopping.best_epoch"] == 1


def test_a_model_that_is_compiled_anew(record: Recording) -> None:
    """For the fit that follows in the same run (fine-tuning) its optimizer and what it trains are told again, and not otherwise."""
    model = made(optimizer=keras.optimizers.SGD(0.5))
    model.fit(*data(), batch_size=8, verbose=0)
    before = record.params_by_key()
    told = len(record.written)
    model.fit(*data(), batch_size=8, verbose=0)
    assert all(not key.startswith(("model.", "optimizer.")) for key, _, _ in record.written[told:])
    model.layers[-1].trainable = False
    model.compile(optimizer=keras.optimizers.SGD(0.25), loss=model.loss)
    model.fit(*data(), batch_size=8, verbose=0)
    after = record.params_by_key()
    assert (before["optimizer.learning_rate"], after["optimizer.learning_rate"]) == (0.5, 0.25)
    assert before["model.parameters_trainable"] > after["model.parameters_trainable"]
    assert after["model.parameters"] == before["model.parameters"]
