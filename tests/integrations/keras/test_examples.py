"""The examples, run as a user runs them: what the store has equals what they print, to the last bit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import looptap

EXAMPLES = Path(__file__).parents[3] / "examples"


def run(folder: Path, example: str, backend: str) -> dict[str, list[tuple[int, float]]]:
    """The values that the example prints at each step, by name."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "LOOPTAP_QUIET": "1", "KERAS_BACKEND": backend},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed: dict[str, list[tuple[int, float]]] = {}
    for line in done.stdout.splitlines():
        found = re.findall(r"(\w+) (\S+)", line)
        if found and found[0][0] in ("step", "test"):
            step = int(found[0][1])
            for name, value in found[1:]:
                printed.setdefault(name, []).append((step, float(value)))
    return printed


def recorded(name: str) -> list[tuple[int, float]]:
    history = looptap.get_run("latest").history(name)
    return list(zip(history["step"].tolist(), history["value"].tolist(), strict=True))


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_fit(tmp_path: Path, backend: str) -> None:
    """Every value of every batch, what an epoch and an evaluation come to, settings and the model file."""
    printed = run(tmp_path, "keras_fit.py", backend)
    for name in ("loss", "accuracy"):
        assert len(printed[name]) == 39
        assert recorded(name) == printed[name]
    found = looptap.get_run("latest")
    assert found.status == "finished"
    assert [step for step, _ in recorded("val_loss")] == [12, 25, 38]
    assert recorded("epoch") == [(0, 0.0), (13, 1.0), (26, 2.0)]
    assert [step for step, _ in recorded("test/loss")] == [38]
    assert found.params["fit.batch_size"] == 64
    assert found.params["lr"] == 0.01
    assert [artifact.name for artifact in found.artifacts if artifact.role == "output"] == ["two-moons.keras"]


def test_custom_step(tmp_path: Path) -> None:
    """Keras' means as printed, and the losses of the batches whose means these are."""
    printed = run(tmp_path, "keras_custom_step.py", "tensorflow")
    for name in ("loss", "reconstruction_loss", "kl_loss"):
        assert recorded(name) == printed[name]
        batches = np.array([value for _, value in recorded(f"batch_{name}")]).reshape(3, 8)
        means = np.cumsum(batches, axis=1) / np.arange(1, 9)
        assert np.allclose(means.ravel(), [value for _, value in printed[name]], rtol=1e-6)
        assert batches[0, 0] == printed[name][0][1]
