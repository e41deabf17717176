"""``fit``: what it leaves behind is what the program's own callback is told, and nothing of the program's has changed."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from integrations.keras.models import Seen, data, made, watched, weights
from integrations.recording import Recording


def test_every_batch_and_every_epoch(record: Recording) -> None:
    """Under Keras' names, bit for bit what a callback sees; train and validation apart; each value once."""
    seen = Seen()
    made().fit(*data(), batch_size=8, epochs=2, validation_data=data(16, seed=1), callbacks=[seen], verbose=0)
    assert len(seen.batches) == 10
    for name in ("loss", "accuracy"):
        assert record.series(name) == seen.of_batches(name)
        assert record.series(f"epoch_{name}") == [
            (step, logs[name]) for step, logs in zip((4, 9), seen.epochs, strict=True)
        ]
        assert record.series(f"val_{name}") == [
            (step, logs[f"val_{name}"]) for step, logs in zip((4, 9), seen.epochs, strict=True)
        ]
    assert record.series("epoch") == [(0, 0.0), (5, 1.0)]
    times = record.series("step_time")
    assert [step for step, _ in times] == list(range(10))
    assert all(seconds > 0 for _, seconds in times)
    assert record.names() - {"batch_loss"} == {
        *("loss", "accuracy", "epoch_loss", "epoch_accuracy", "val_loss", "val_accuracy", "epoch", "step_time", "lr")
    }
    assert record.step == 9
    assert record.notes == []


def test_settings(record: Recording) -> None:
    """Arguments by name, also those given by position and those that were not given; data is none of them."""
    x, y = data()
    made().fit(x, y, 10, 2, 0)
    expected = {"fit.batch_size": 10, "fit.epochs": 2, "fit.shuffle": True, "fit.validation_split": 0.0}
    params = record.params_by_key()
    assert {key: params.get(key) for key in expected} == expected
    assert not any(key.startswith(("fit.x", "fit.y", "fit.verbose", "fit.callbacks")) for key in params)


def test_size_of_a_batch(record: Recording) -> None:
    """What Keras takes for arrays where the program says nothing; of a data set, what it says itself."""

    class Batches(keras.utils.PyDataset):
        batch_size = 8

        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Any:
            return data(8)

    made().fit(*data(), verbose=0)
    assert record.params_by_key()["fit.batch_size"] == 32
    record.written.clear()
    made().fit(Batches(), verbose=0)
    params = record.params_by_key()
    assert params["data.batch_size"] == 8
    assert "fit.batch_size" not in params


@pytest.mark.parametrize("given", ["nothing", "None", "positional", "list", "single"])
def test_callbacks_stay_the_programs(record: Recording, given: str) -> None:
    """Whatever the program passes: the same object with the same content afterwards, and the same records."""
    x, y = data()
    seen = Seen()
    mine = [seen]
    if given == "nothing":
        history = made().fit(x, y, batch_size=8, verbose=0)
    elif given == "None":
        history = made().fit(x, y, 8, 1, 0, None)
    elif given == "positional":
        history = made().fit(x, y, 8, 1, 0, mine)
    elif given == "list":
        history = made().fit(x, y, batch_size=8, verbose=0, callbacks=mine)
    else:
        history = made().fit(x, y, batch_size=8, verbose=0, callbacks=seen)
    assert mine == [seen]
    # Keras converts the values in threads of its own where no callback wants them at once.
    assert sorted(step for step, _ in record.series("loss")) == [0, 1, 2, 3, 4]
    assert record.values("epoch_loss") == history.history["loss"]
    if given in ("positional", "list"):
        assert record.series("loss") == seen.of_batches("loss")
    elif given == "single":  # Keras looks for callbacks that want values at once in lists only
        assert sorted(record.values("loss")) == sorted(logs["loss"] for logs in seen.batches)


def test_numbers_are_the_same_without_us() -> None:
    """Weights and history, to the last bit."""

    def train() -> tuple[list[bytes], dict[str, list[float]]]:
        model = made()
        history = model.fit(*data(), batch_size=8, epochs=2, validation_split=0.2, verbose=0)
        return weights(model), history.history

    alone = train()
    with watched() as record:
        assert train() == alone
    assert len(record.series("loss")) == 8


def test_second_fit_goes_on(record: Recording) -> None:
    """The same model again: its steps follow in the same run. The same list of callbacks works twice."""
    model, seen = made(), Seen()
    mine = [seen]
    for _ in range(2):
        model.fit(*data(), batch_size=8, verbose=0, callbacks=mine)
    assert record.generation == 1
    assert record.series("loss") == seen.of_batches("loss")
    assert record.series("epoch") == [(0, 0.0), (5, 0.0)]
    assert len(mine) == 1


def test_another_model_is_another_run(record: Recording) -> None:
    """Its steps would come a second time."""
    for seed in range(2):
        made(seed).fit(*data(), batch_size=8, verbose=0)
    assert record.generation == 2
    steps = [step for step, _ in record.series("loss")]
    assert [sorted(steps[:5]), sorted(steps[5:])] == [[*range(5)], [*range(5)]]


def test_callbacks_that_know_more(record: Recording) -> None:
    """What a callback adds to the values of an epoch is recorded with them."""

    class Adds(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["mine"] = 0.5 + epoch

    made().fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[Adds()])
    assert record.series("epoch_mine") == [(4, 0.5), (9, 1.5)]


def test_custom_metrics_and_names(record: Recording) -> None:
    """Keras' own names: metrics with names of the program, several outputs' losses."""
    metric = keras.metrics.SparseCategoricalAccuracy(name="hits")
    seen = Seen()
    made(metrics=[metric, "sparse_categorical_crossentropy"]).fit(*data(), batch_size=8, verbose=0, callbacks=[seen])
    for name in ("hits", "sparse_categorical_crossentropy", "loss"):
        assert record.series(name) == seen.of_batches(name)


def test_suppressed(record: Recording) -> None:
    """``looptap.suppress()`` around it leaves nothing."""
    with record.suppress():
        made().fit(*data(), batch_size=8, verbose=0)
    assert record.points == []
