"""What goes wrong in a program goes wrong as it would without us, and what follows is recorded as ever."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

from integrations.keras.models import Seen, data, made, watched, weights
from integrations.recording import Recording

BACKEND = keras.backend.backend()


class Mistake(Exception):
    pass


def is_free(record: Recording) -> bool:
    """Whether nothing leads any more."""
    return record.unusual == 0 and not record.is_step_under_way() and record.split() is None


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("on_train_begin", Mistake),
        ("on_train_batch_begin", Mistake),
        ("on_train_batch_end", Mistake),
        ("on_train_batch_end", KeyboardInterrupt),
        ("on_test_end", Mistake),
        ("on_epoch_end", Mistake),
        ("on_train_end", Mistake),
    ],
)
def test_callback_that_raises(record: Recording, event: str, kind: type[BaseException]) -> None:
    """The program gets its own exception, the same object; a fit afterwards goes on."""
    mistake = kind("mine")

    class Fails(keras.callbacks.Callback):
        pass

    def fail(*args: Any, **kwargs: Any) -> None:
        raise mistake

    setattr(Fails, event, fail)
    model = made()
    with pytest.raises(kind) as caught:
        model.fit(*data(), batch_size=8, validation_data=data(8), verbose=0, callbacks=[Fails()])
    assert caught.value is mistake
    assert is_free(record)
    before = record.step
    seen = Seen()
    made(1).fit(*data(), batch_size=8, verbose=0, callbacks=[seen])
    assert record.series("loss")[-5:] == seen.of_batches("loss")
    assert record.step == 4
    assert record.generation == (1 if before == -1 else 2)


def test_generator_that_yields_once(record: Recording) -> None:
    """It is asked as often as without us; Keras' warning comes, and the steps that were made are there."""

    def train() -> tuple[list[int], Seen, list[int]]:
        asked: list[int] = []
        seen = Seen()
        ends: list[int] = []
        counts = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(len(seen.batches)))

        def batches() -> Iterator[Any]:
            x, y = data(16)
            for first in (0, 8):
                asked.append(first)
                yield x[first : first + 8], y[first : first + 8]

        with pytest.warns(UserWarning, match="ran out of data"):
            made().fit(batches(), epochs=3, steps_per_epoch=2, verbose=0, callbacks=[seen, counts])
        return asked, seen, ends

    with record.suppress():
        alone, expected, _ = train()
    asked, seen, ends = train()
    assert asked == alone
    assert seen.batches == expected.batches
    assert record.series("loss") == seen.of_batches("loss")
    assert ends[0] == 2 or (ends[0] == 1 and BACKEND != "tensorflow")  # Keras 3.3 loses the batch that it has looked at
    assert record.series("epoch_loss")[0] == (ends[0] - 1, seen.epochs[0]["loss"])
    assert is_free(record)


def test_endless_data(record: Recording) -> None:
    """As much is drawn as Keras draws by itself."""

    def drawn() -> int:
        count = 0

        def batches() -> Iterator[Any]:
            nonlocal count
            while True:
                count += 1
                yield data(8, seed=count)

        made().fit(batches(), epochs=2, steps_per_epoch=3, verbose=0)
        return count

    with record.suppress():
        alone = drawn()
    if BACKEND == "tensorflow":
        # Threads of tf.data's own draw ahead, two batches at most, as far as they come.
        assert abs(drawn() - alone) <= 2
    else:
        assert drawn() == alone
    assert sorted(step for step, _ in record.series("loss")) == list(range(6))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of tf.data")
def test_endless_dataset(record: Recording) -> None:
    """``tf.data`` with ``repeat()``, and options of its own: it is not iterated but by Keras."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(data()).shuffle(40, seed=1).batch(8).repeat().prefetch(2)
    seen = Seen()
    made().fit(
        dataset, epochs=2, steps_per_epoch=4, validation_data=dataset, validation_steps=2, verbose=0, callbacks=[seen]
    )
    assert record.series("loss") == seen.of_batches("loss")
    assert len(record.series("loss")) == 8
    assert [step for step, _ in record.series("val_loss")] == [3, 7]
    assert [step for step, _ in record.series("batch_loss")] == list(range(8))


def test_training_that_stops(record: Recording) -> None:
    """``model.stop_training`` in the middle of an epoch ends it there, with the values of the epoch so far."""

    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                self.model.stop_training = True

    seen = Seen()
    made().fit(*data(), batch_size=8, epochs=5, verbose=0, callbacks=[Stops(), seen])
    assert record.series("loss") == seen.of_batches("loss")
    assert [step for step, _ in record.series("loss")] == [0, 1]
    assert record.series("epoch_loss") == [(1, seen.epochs[0]["loss"])]


def test_loss_that_is_no_number(record: Recording) -> None:
    """NaN is recorded as such."""
    x, y = data()
    x[8:] = np.nan
    made().fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()])
    found = record.series("loss")
    assert [step for step, _ in found] == [0, 1]
    assert not math.isnan(found[0][1])
    assert math.isnan(found[1][1])


@pytest.mark.parametrize("is_same", [False, True])
def test_fit_inside_of_a_fit(record: Recording, is_same: bool) -> None:
    """The inner one is recorded beside the outer one, whose steps and epochs stay what they are."""
    inner_seen, seen = Seen(), Seen()
    model, other = made(), made(1)

    class Trains(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            chosen = model if is_same else other
            chosen.fit(*data(16), batch_size=8, verbose=0, callbacks=[inner_seen])

    model.fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[Trains(), seen])
    name = model.name if is_same else other.name
    assert record.series("loss") == seen.of_batches("loss")
    assert len(record.series("loss")) == 10
    assert record.series("epoch") == [(0, 0.0), (5, 1.0)]
    assert record.values("loss", model=name) == [logs["loss"] for logs in inner_seen.batches]
    assert record.generation == 1
    assert record.step == 9
    if BACKEND != "jax":
        assert [step for step, _ in record.series("batch_loss")] == list(range(10))
        assert len(record.series("batch_loss", model=name)) == 4
    assert record.notes == []
    assert is_free(record)


def test_same_model_by_single_batches_inside_of_a_fit(record: Recording) -> None:
    """Neither the losses of the fit nor its steps are taken for those of the batches between them."""
    model = made()

    class Trains(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            model.train_on_batch(*data(8))

    model.fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[Trains(), Seen()])
    assert [step for step, _ in record.series("loss")] == list(range(10))
    assert len(record.series("loss", model=model.name)) == 2
    if BACKEND != "jax":
        assert [step for step, _ in record.series("batch_loss")] == list(range(10))
    assert record.notes == []


class Overridden(keras.Sequential):
    """A program's own ``fit`` around Keras'."""

    def fit(self, pair: Any, times: int) -> list[Any]:
        return [super(Overridden, self).fit(*pair, batch_size=8, verbose=0) for _ in range(times)]


class OwnLoop(keras.Sequential):
    """A program's own ``fit`` instead of Keras', with the list of callbacks that Keras would make."""

    def fit(self, x: Any, y: Any, callbacks: Any = None, fails_at: int = -1) -> Any:
        told = keras.callbacks.CallbackList(callbacks, add_history=True, model=self, epochs=1, steps=5)
        told.on_train_begin()
        told.on_epoch_begin(0)
        logs: dict[str, float] = {}
        for batch in range(5):
            told.on_train_batch_begin(batch)
            if batch == fails_at:
                raise Mistake
            logs = self.train_on_batch(x[8 * batch : 8 * batch + 8], y[8 * batch : 8 * batch + 8], return_dict=True)
            told.on_train_batch_end(batch, logs)
        told.on_epoch_end(0, logs)
        told.on_train_end(logs)
        return self.history


def of_class(kind: Any) -> Any:
    model = kind([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_fit_that_is_overridden(record: Recording) -> None:
    histories = of_class(Overridden).fit(data(), 2)
    assert record.values("epoch_loss") == [history.history["loss"][0] for history in histories]
    assert sorted(step for step, _ in record.series("loss")) == list(range(10))
    assert record.params_by_key()["fit.batch_size"] == 8


def test_fit_of_the_programs_own(record: Recording) -> None:
    """Told by its list of callbacks; one that fails leads no longer than its list lives."""
    seen = Seen()
    history = of_class(OwnLoop).fit(*data(), callbacks=[seen])
    assert record.series("epoch_loss") == [(4, float(history.history["loss"][0]))]
    assert record.series("loss") == seen.of_batches("loss")
    assert is_free(record)
    model = of_class(OwnLoop)
    with pytest.raises(Mistake):
        model.fit(*data(), fails_at=2)
    model = None
    gc.collect()
    assert is_free(record)


def test_models_fitted_in_turns(record: Recording) -> None:
    """In a run that the program has begun, all follow one another; each value stands where its fit was."""
    record.new_run()
    record._renew = lambda: None
    one, other = made(), made(1)
    told: list[float] = []
    for _ in range(2):
        for model in (one, other):
            seen = Seen()
            model.fit(*data(), batch_size=8, verbose=0, callbacks=[seen])
            told += [logs["loss"] for logs in seen.batches]
    assert record.series("loss") == list(enumerate(told))
    assert record.generation == 1
    if BACKEND != "jax":
        assert [step for step, _ in record.series("batch_loss")] == list(range(20))


def test_fits_in_two_threads(record: Recording) -> None:
    """Each value is in the series of its own model, also once the fit that came first is over; neither is disturbed."""
    models, epochs = [made(), made(1)], [2, 4]
    alone = [made(), made(1)]
    with record.suppress():
        for model, count in zip(alone, epochs, strict=True):
            model.fit(*data(), batch_size=8, epochs=count, shuffle=False, verbose=0)
    seen = [Seen(), Seen()]
    barrier, is_over = threading.Barrier(2), threading.Event()

    class Meets(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            barrier.wait(60)

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2 and self.model is models[1]:
                is_over.wait(60)  # the other one's, which probably leads

    def fit(index: int) -> None:
        callbacks = [Meets(), seen[index]]
        models[index].fit(*data(), batch_size=8, epochs=epochs[index], shuffle=False, verbose=0, callbacks=callbacks)
        is_over.set()

    threads = [threading.Thread(target=fit, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [weights(model) for model in models] == [weights(model) for model in alone]
    (beside,) = {where["model"] for _, _, _, where in record.points if where}
    second = [model.name for model in models].index(beside)
    assert record.series("loss") == seen[1 - second].of_batches("loss")
    assert record.series("loss", model=beside) == seen[second].of_batches("loss")
    if BACKEND != "jax":
        for index, context in ((1 - second, {}), (second, {"model": beside})):
            assert [step for step, _ in record.series("batch_loss", **context)] == list(range(5 * epochs[index]))
    assert is_free(record)


def test_failures_of_ours_stay_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails in us: the fit goes on, with the same weights, and after three failures without us."""
    monkeypatch.setenv("LOOPTAP_STRICT", "0")
    alone = made()
    alone.fit(*data(), batch_size=8, epochs=2, validation_split=0.2, verbose=0)
    with watched() as record:

        def fail(*args: Any, **kwargs: Any) -> None:
            raise ValueError("ours")

        record.metrics = record.log_metrics = record.params = fail  # type: ignore[method-assign]
        model = made()
        history = model.fit(*data(), batch_size=8, epochs=2, validation_split=0.2, verbose=0)
        assert len(history.history["val_loss"]) == 2
        assert weights(model) == weights(alone)
        model.evaluate(*data(), verbose=0)
        model.train_on_batch(*data(8))
