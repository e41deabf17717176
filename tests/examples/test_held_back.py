"""The examples that are held back on purpose are diagnosed in the first finding, by the command that users have."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from programs import Programs

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "rule"), [("loader", "waiting_for_data"), ("memory", "memory_creep"), ("batch", "tiny_batches")]
)
def test_the_first_finding_is_the_right_one(programs: Programs, name: str, rule: str) -> None:
    pytest.importorskip("torch")
    check_first(programs, name, rule)


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_of_keras(programs: Programs, backend: str) -> None:
    """On each of its backends."""
    pytest.importorskip("tensorflow")
    check_first(programs, "generator", "waiting_for_data", KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3")
    phases = {
        phase["name"]: phase["share"] for phase in json.loads(programs.looptap("profile", "--json").stdout)["phases"]
    }
    assert phases.keys() == {"data", "train", "other"}
    assert sum(phases.values()) == pytest.approx(1, abs=0.01)
    assert "PyDataset" in programs.looptap("profile").stdout


def check_first(programs: Programs, name: str, rule: str, **environment: str) -> None:
    example = [sys.executable, str(EXAMPLES / f"held_back_by_{name}.py")]
    done = programs.command(example, LOOPTAP_RESOURCES="1", **environment)
    assert done.returncode == 0, done.stderr
    told = programs.looptap("profile", "latest", "--json")
    assert told.returncode == 0, told.stderr
    findings = json.loads(told.stdout)["findings"]
    assert [finding["rule"] for finding in findings][:1] == [rule], told.stdout
    assert findings[0]["facts"]
    assert findings[0]["title"] in programs.looptap("profile").stdout
