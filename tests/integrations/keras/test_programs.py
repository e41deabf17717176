"""Whole programs, as a user starts them: order of import, how a run ends, and what the store has then."""

from __future__ import annotations

import json
import signal

import pytest

import looptap
from programs import Programs, assert_conserved

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "LOOPTAP_QUIET": "1"}
TRAIN = """
import json
import numpy as np

class Seen(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.losses, self.epochs = [], []
    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])
    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(logs["val_loss"])

seen = Seen()
x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(optimizer="sgd", loss="mse")
model.fit(x, x[:, :1], batch_size=8, epochs=2, validation_split=0.2, verbose=0, callbacks=[seen])
print(json.dumps({"backend": keras.backend.backend(), "losses": seen.losses, "epochs": seen.epochs}))
"""
AUTOLOG = "import looptap; looptap.autolog()\n"
ORDERS = {
    "autolog first": ("tensorflow", AUTOLOG + "import keras\n"),
    "keras and tensorflow first": ("tensorflow", "import tensorflow, keras\n" + AUTOLOG),
    "tf.keras": ("tensorflow", AUTOLOG + "import tensorflow as tf\nkeras = tf.keras\n"),
    "backend chosen after autolog": (
        "jax",
        AUTOLOG + "import os; os.environ['KERAS_BACKEND'] = 'jax'\nimport keras\n",
    ),
    "torch first": (
        "torch",
        "import torch\n" + AUTOLOG + "import os; os.environ['KERAS_BACKEND'] = 'torch'\nimport keras\n",
    ),
}


def recorded(key: str) -> list[tuple[int, float]]:
    history = looptap.get_run("latest").history(key)
    return list(zip(history["step"].tolist(), history["value"].tolist(), strict=True))


@pytest.mark.parametrize("order", ORDERS)
def test_orders_of_import(programs: Programs, order: str) -> None:
    """Every value of every batch is in the store, to the last bit."""
    backend, imports = ORDERS[order]
    done = programs.python(imports + TRAIN, **QUIET)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["backend"] == backend
    assert recorded("loss") == list(enumerate(told["losses"]))
    assert recorded("val_loss") == list(zip((3, 7), told["epochs"], strict=True))
    run = looptap.get_run("latest")
    assert run.status == "finished"
    assert run.params["fit.epochs"] == 2
    assert ("batch_loss" in run.metrics) == (backend != "jax")
    record = programs.record()
    assert_conserved(record)
    assert "dict" not in {item["source"] for item in record["params"].values()}, "Callback.params is Keras' own"


ENDLESS = """
import looptap; looptap.autolog()
import keras
import numpy as np

class Tells(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print(batch, logs["loss"], flush=True)
        if batch == FAILS_AT:
            raise ValueError("my own mistake")

def batches():
    while True:
        yield np.ones((8, 4), "float32"), np.zeros((8, 1), "float32")

model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile(optimizer="sgd", loss="mse")
model.fit(batches(), steps_per_epoch=10**9, verbose=0, callbacks=[Tells()])
"""


def printed(lines: list[str]) -> list[tuple[int, float]]:
    return [(int(step), float(value)) for step, _, value in (line.partition(" ") for line in lines)]


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_program_that_fails(programs: Programs, backend: str) -> None:
    """Its exception ends it and names the run's end; every value by then is there."""
    done = programs.python(ENDLESS.replace("FAILS_AT", "20"), KERAS_BACKEND=backend, **QUIET)
    assert done.returncode == 1
    assert "ValueError: my own mistake" in done.stderr
    assert recorded("loss") == printed(done.stdout.splitlines())
    assert len(recorded("loss")) == 21
    run = looptap.get_run("latest")
    assert (run.status, run.error) == ("failed", "ValueError: my own mistake")
    if backend == "tensorflow":
        assert [step for step, _ in recorded("batch_loss")] == list(range(21))


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_program_that_is_ended(programs: Programs, end: signal.Signals) -> None:
    """By Ctrl-C or at once: what its callbacks had been told is there."""
    process = programs.start(ENDLESS.replace("FAILS_AT", "-1"), launched=False, KERAS_BACKEND="tensorflow", **QUIET)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(300)]
    process.send_signal(end)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert (end == signal.SIGINT) == ("KeyboardInterrupt" in errors)
    told = printed([line for line in (*lines, *rest.splitlines()) if line.endswith("\n") or end == signal.SIGINT])
    programs.looptap("sync")
    found = recorded("loss")
    assert found[: len(told)] == told
    assert looptap.get_run("latest").status == "killed"
