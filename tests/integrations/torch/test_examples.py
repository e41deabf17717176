"""The examples, run as a user runs them: what the store has equals what they print, to the last bit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import looptap

EXAMPLES = Path(__file__).parents[3] / "examples"


def run(folder: Path, example: str, *arguments: str) -> dict[str, list[tuple[int, float]]]:
    """The values that the example prints at each step, by name."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "LOOPTAP_QUIET": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed: dict[str, list[tuple[int, float]]] = {}
    for line in done.stdout.splitlines():
        found = re.findall(r"(\w+) (\S+)", line)
        if found and found[0][0] == "step":
            for name, value in found[1:]:
                printed.setdefault(name, []).append((int(found[0][1]), float(value)))
    return printed


def recorded(name: str) -> list[tuple[int, float]]:
    history = looptap.get_run("latest").history(name)
    return list(zip(history["step"].tolist(), history["value"].tolist(), strict=True))


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("plain_loop.py --epochs 2 --lr 0.02", ["loss", "grad_norm"]),
        ("gradient_accumulation.py", ["loss"]),
        ("gradient_accumulation.py --sum", ["loss"]),
        ("gan.py", ["errD_real", "errD_fake", "errG"]),
        ("lbfgs.py", ["loss", "closure_evaluations"]),
        ("mixed_precision.py", ["loss"]),
        ("manual_update.py", ["loss"]),
    ],
)
def test_recorded_equals_printed(tmp_path: Path, command: str, names: list[str]) -> None:
    """Every value of every step, under its name and its number."""
    printed = run(tmp_path, *command.split())
    for name in names:
        assert len(printed[name]) > 10
        assert recorded(name) == printed[name], name
    if command == "mixed_precision.py":
        changes = [
            point
            for i, point in enumerate(printed["amp_scale"])
            if i == 0 or printed["amp_scale"][i - 1][1] != point[1]
        ]
        assert recorded("amp_scale") == changes
        assert recorded("amp_skipped") == [point for point in printed["amp_skipped"] if point[1]] == [(7, 1.0)]


def test_plain_loop_leaves_a_complete_record(tmp_path: Path) -> None:
    """Settings with their sources, the model file, and the user's own metric, in one run."""
    run(tmp_path, "plain_loop.py", "--epochs", "2", "--lr", "0.02")
    found = looptap.get_run("latest")
    assert found.status == "finished"
    expected = {
        "lr": 0.02,
        "epochs": 2,
        "batch_size": 64,
        "HIDDEN": 32,
        "optimizer.class": "torch.optim.adamw.AdamW",
        "optimizer.lr": 0.02,
        "optimizer.betas": [0.9, 0.999],
        "model.class": "torch.nn.modules.container.Sequential",
        "model.parameters": 162,
        "model.parameters_trainable": 162,
        "model.parameters_float32": 162,
        "data.batch_size": 64,
        "data.shuffle": True,
        "data.dataset_size": 1000,
        "batch_size_effective": 64,
        "grad_clip.max_norm": 1.0,
        "seed.torch": 0,
    }
    assert {key: found.params[key] for key in expected} == expected
    assert recorded("lr") == [(0, 0.02), (16, 0.01)]
    assert recorded("epoch") == [(0, 0.0), (16, 1.0)]
    assert [step for step, _ in recorded("accuracy")] == [15, 31]
    assert len(recorded("step_time")) == 32
    assert [artifact.name for artifact in found.artifacts] == ["two-moons.pt"]
