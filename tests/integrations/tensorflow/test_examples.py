"""The examples, run as a user runs them: what the store has equals what they print, to the last bit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import looptap
from programs import Programs

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("words", [[], ["--xla", "--epochs", "2"]], ids=["graph", "xla"])
def test_a_compiled_loop(programs: Programs, words: list[str]) -> None:
    """Every step of the loops inside of the graph, its rate by the schedule, and the settings."""
    done = programs.command([sys.executable, str(EXAMPLES / "tf_tape_compiled.py"), *words], LOOPTAP_QUIET="1")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    printed = [(int(line[1]), float(line[3])) for line in lines]
    assert len(printed) == (20 if words else 30)
    run = looptap.get_run("latest")
    history = run.history("loss")
    assert list(zip(history["step"].tolist(), history["value"].tolist(), strict=True)) == printed
    rates = run.history("lr")["value"].tolist()
    assert len(rates) == len(printed)
    assert rates == sorted(rates, reverse=True)
    expected = {
        "lr": 0.05,
        "HIDDEN": 16,
        "BATCH_SIZE": 20,
        "optimizer.class": "keras.src.optimizers.adam.Adam",
        "optimizer.learning_rate.class": "CosineDecay",
        "seed.tensorflow": 3,
    }
    assert {key: run.params[key] for key in expected} == expected
    assert run.status == "finished"
