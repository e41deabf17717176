"""Whole programs, as a user starts them: order of import, how a run ends, and what the store has then."""

from __future__ import annotations

import signal
from typing import Any

import pytest

import looptap
from programs import Programs, assert_conserved

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "LOOPTAP_QUIET": "1"}
AUTOLOG = "import looptap; looptap.autolog()\n"
MODEL = """
weight = tf.Variable([0.5, -0.5])
optimizer = keras.optimizers.SGD(0.1)
optimizer.build([weight])

@tf.function(jit_compile=COMPILED)
def train(goal):
    with tf.GradientTape() as tape:
        error = tf.reduce_sum(tf.square(weight - goal))
    optimizer.apply([tape.gradient(error, weight)], [weight])
    return error
"""
LOOP = """
for step in range(STEPS):
    print("step", step, float(train(tf.constant([1.0, 2.0]) / (1 + step % 3))).hex(), flush=True)
"""
ORDERS = {
    "autolog first": AUTOLOG + "import tensorflow as tf\nimport keras\n" + MODEL,
    "keras first": "import keras\n" + AUTOLOG + "import tensorflow as tf\n" + MODEL,
    "everything first": "import tensorflow as tf\nimport keras\n" + MODEL + AUTOLOG,
    "tf.keras": AUTOLOG + "import tensorflow as tf\nkeras = tf.keras\n" + MODEL,
}


def printed(output: str) -> list[tuple[int, float]]:
    words = [line.split() for line in output.splitlines()]
    return [(int(line[1]), float.fromhex(line[2])) for line in words if len(line) == 3 and line[0] == "step"]


def recorded(key: str) -> list[tuple[int, float]]:
    history = looptap.get_run("latest").history(key)
    return list(zip(history["step"].tolist(), history["value"].tolist(), strict=True))


def filled(code: str, **values: Any) -> str:
    for name, value in values.items():
        code = code.replace(name, repr(value))
    return code


@pytest.mark.parametrize("order", ORDERS)
def test_orders_of_import(programs: Programs, order: str) -> None:
    """Every loss of every step is in the store, to the last bit; the metric that the program logs is at its step."""
    log = "    if step == 20: looptap.log_metric('mine', 1.0); looptap.log_metric('error', float.fromhex('HEX'))\n"
    done = programs.python(
        filled(ORDERS[order] + LOOP + log.replace("HEX", "0x1p+3"), COMPILED=None, STEPS=50), **QUIET
    )
    assert done.returncode == 0, done.stderr
    told = printed(done.stdout)
    assert len(told) == 50
    assert sorted(recorded("error")) == sorted([*told, (20, 8.0)])
    assert recorded("mine") == [(20, 1.0)]
    run = looptap.get_run("latest")
    assert run.status == "finished"
    assert run.params["optimizer.class"] == "keras.src.optimizers.sgd.SGD"
    assert_conserved(programs.record())


def test_traced_before_autolog(programs: Programs) -> None:
    """Which functions are blind is said by name; those that are traced later are seen."""
    code = (
        "import tensorflow as tf\nimport keras\n"
        + filled(MODEL, COMPILED=None)
        + "@tf.function\ndef predict(goal):\n    return weight * goal\n"
        + "predict(tf.constant([1.0, 2.0])); train(tf.constant([1.0, 2.0]))\n"
        + "model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]); model.compile('sgd', 'mse')\n"
        + "model.fit(tf.ones([4, 2]), tf.ones([4, 1]), verbose=0)\n"
        + AUTOLOG
        + filled(LOOP, STEPS=3)
        + "train(tf.constant(3.0)); looptap.end_run()\n"
    )
    done = programs.python(code, **QUIET)
    assert done.returncode == 0, done.stderr
    record = programs.record()
    notes = [note["message"] for note in record["notes"]]
    assert [note for note in notes if note.startswith("traced before autolog()")] == [
        "traced before autolog(), so that its losses are not seen: train. Call autolog() before the first step"
    ]
    assert len(recorded("error")) == 1


@pytest.mark.parametrize("compiled", [None, True], ids=["graph", "xla"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_program_that_is_ended(programs: Programs, end: signal.Signals, compiled: bool | None) -> None:
    """By Ctrl-C, with all of its losses; at once, with those but for the last tenth of a second or so."""
    code = filled(ORDERS["autolog first"] + LOOP, COMPILED=compiled, STEPS=10**9)
    process = programs.start(code + "    import time; time.sleep(0.002)\n", launched=False, **QUIET)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(400)]
    process.send_signal(end)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    told = printed("".join([*lines, rest.rpartition("\n")[0]]))
    programs.looptap("sync")
    found = recorded("error")
    assert len(found) > 100
    if end == signal.SIGINT:
        assert found[: len(told)] == told
        assert len(found) - len(told) <= 1  # interrupted between the step and the print
    else:
        assert found == told[: len(found)] or found[: len(told)] == told
    assert looptap.get_run("latest").status == "killed"


def test_a_program_that_fails(programs: Programs) -> None:
    code = filled(ORDERS["autolog first"] + LOOP, COMPILED=None, STEPS=10**9)
    done = programs.python(code + "    assert step < 30, 'my own mistake'\n", **QUIET)
    assert done.returncode == 1
    assert "my own mistake" in done.stderr
    assert recorded("error") == printed(done.stdout)
    assert looptap.get_run("latest").status == "failed"
