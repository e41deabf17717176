"""Where the time of a batch goes: ``time.data``, ``time.train``, ``time.other``, which together are its ``step_time``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import keras
import numpy as np
import pytest

from integrations.keras.models import Seen, data, made, watched
from integrations.recording import Recording

BACKEND = keras.backend.backend()
IS_TENSORFLOW = BACKEND == "tensorflow"
PHASES = ("time.data", "time.train", "time.other")
#: So much longer than anything else in a step of the small model.
SLOW = 0.03


def steps_of(record: Recording, key: str, **context: str) -> list[int]:
    return sorted(step for step, _ in record.series(key, **context))


def check_sums(record: Recording, **context: str) -> None:
    """The phases of every step, and nothing else, are its time."""
    whole = dict(record.series("step_time", **context))
    parts = [dict(record.series(phase, **context)) for phase in PHASES]
    assert all(part.keys() == whole.keys() for part in parts)
    sums = [sum(part[step] for part in parts) for step in whole]
    # The clock of TensorFlow tells microseconds.
    assert np.allclose(sums, list(whole.values()), rtol=0, atol=1e-5)
    assert min(min(part.values()) for part in parts) >= 0.0


def slow_batches(count: int, seconds: float = SLOW) -> Iterator[tuple[Any, Any]]:
    x, y = data()
    for _ in range(count):
        time.sleep(seconds)
        yield x[:8], y[:8]


class Pauses(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        time.sleep(SLOW)


@pytest.mark.parametrize(
    "compiled", [{}, {"run_eagerly": True}, {"jit_compile": False}], ids=["plain", "eager", "no jit"]
)
def test_parts_of_every_step(record: Recording, compiled: dict[str, Any]) -> None:
    """A validation in between belongs to none. The layers below record no times of their own."""
    model = made(**compiled)
    for _ in range(2):
        model.fit(*data(), batch_size=8, epochs=2, validation_data=data(16, seed=1), callbacks=[Seen()], verbose=0)
    assert steps_of(record, "time.data") == list(range(20))
    check_sums(record)
    assert {key for key, *_ in record.points if "time." in key} == set(PHASES)
    assert record.notes == []


@pytest.mark.parametrize("compiled", [{}, {"run_eagerly": True}], ids=["plain", "eager"])
def test_waiting_for_data(record: Recording, compiled: dict[str, Any]) -> None:
    """A generator that takes its time: that is what most of a step is."""
    seconds = 0.2 if compiled else SLOW
    made(**compiled).fit(slow_batches(10, seconds), steps_per_epoch=10, verbose=0)
    assert median(record.values("time.data")) > seconds / 2
    check_sums(record)


def test_callbacks_of_the_program(record: Recording) -> None:
    """What they take after a batch is in the step behind it, as *other*."""
    made().fit(*data(), batch_size=8, verbose=0, callbacks=[Pauses()])
    assert min(value for step, value in record.series("time.other") if step > 0) >= SLOW
    check_sums(record)


def test_waiting_for_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Keras waits for the values of a batch before it tells callbacks, it is still the training that it waits for."""
    utils = pytest.importorskip("keras.src.utils.python_utils")
    convert = getattr(utils, "pythonify_logs", None)
    if convert is None:
        pytest.skip("before Keras 3.7 it converts them elsewhere")

    def slowly(logs: Any) -> Any:
        if logs:
            time.sleep(SLOW)
        return convert(logs)

    monkeypatch.setattr(utils, "pythonify_logs", slowly)
    with watched() as record:
        # One that wants its values at once, so that Keras does not leave them to a thread of its own.
        made().fit(*data(), batch_size=8, verbose=0, callbacks=[Seen()])
    assert min(value for step, value in record.series("time.train") if step > 0) >= SLOW
    check_sums(record)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has it on the other backends only")
def test_several_steps_in_one_execution(record: Recording) -> None:
    """The mean over those of an execution, at the last of them; also where the data ends within one."""
    seen = Seen()
    made(steps_per_execution=3).fit(*data(), batch_size=8, epochs=2, verbose=0, callbacks=[seen])
    assert steps_of(record, "time.train") == steps_of(record, "loss")
    check_sums(record)
    assert record.notes == []


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has it on the other backends only")
def test_waiting_within_an_execution(record: Recording) -> None:
    made(steps_per_execution=4).fit(slow_batches(12), steps_per_epoch=12, verbose=0)
    assert median(record.values("time.data")) > SLOW / 2
    check_sums(record)


@pytest.mark.skipif(not IS_TENSORFLOW, reason="of tf.data")
def test_data_without_a_length(record: Recording) -> None:
    """What was asked for in vain, at its end, is no step's."""
    import tensorflow as tf

    spec = (tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((None,), tf.int32))
    batches = tf.data.Dataset.from_generator(lambda: slow_batches(5), output_signature=spec)
    made(steps_per_execution=3).fit(batches, epochs=2, verbose=0)
    assert steps_of(record, "time.data") == steps_of(record, "step_time")
    check_sums(record)


@pytest.mark.skipif(not IS_TENSORFLOW, reason="what TensorFlow has compiled")
def test_compiled_before_us() -> None:
    """Missing, and said to be."""
    model = made()
    model.fit(*data(), batch_size=8, verbose=0)
    with watched() as record:
        model.fit(*data(), batch_size=8, verbose=0)
    assert record.series("time.data") == record.series("time.train") == []
    assert any(note.startswith("no time.data: the model was compiled before autolog()") for note in record.notes)


def test_a_fit_within_a_fit(record: Recording) -> None:
    """Each has its own."""

    class Trains(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            inner.fit(*data(), batch_size=8, verbose=0, callbacks=[Seen()])

    inner = made()
    made().fit(*data(), batch_size=8, verbose=0, callbacks=[Trains(), Seen()])
    check_sums(record)
    check_sums(record, model=inner.name)
    assert steps_of(record, "time.data", model=inner.name) == [0, 1, 2, 3, 4]


def test_a_loop_of_the_program(record: Recording) -> None:
    """Of which nobody can tell what it does between two batches."""
    model = made()
    x, y = data()
    callbacks = keras.callbacks.CallbackList([], model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch in range(5):
        callbacks.on_train_batch_begin(batch)
        loss = model.train_on_batch(x[:8], y[:8])[0]
        callbacks.on_train_batch_end(batch, {"loss": float(loss)})
    callbacks.on_epoch_end(0, {})
    callbacks.on_train_end()
    assert steps_of(record, "step_time") == [0, 1, 2, 3, 4]
    assert not any(record.series(phase) for phase in PHASES)


@pytest.mark.parametrize("kind", ["generator", "PyDataset"])
def test_errors_of_the_data_are_the_programs(record: Recording, kind: str) -> None:
    """They come through as they are."""

    class Broken(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Any:
            if index == 3:
                raise ZeroDivisionError("mine")
            return data(8)

    def batches() -> Iterator[Any]:
        broken = Broken()
        for index in range(5):
            yield broken[index]

    given = batches() if kind == "generator" else Broken()
    with pytest.raises(Exception, match=r"mine|ZeroDivisionError"):
        made().fit(given, steps_per_epoch=5, shuffle=False, verbose=0, callbacks=[Seen()])
    steps = steps_of(record, "step_time")
    # Older ones of Keras get one or two batches ahead, and meet the error that much earlier.
    assert steps == list(range(len(steps)))
    assert 1 <= len(steps) <= 3
