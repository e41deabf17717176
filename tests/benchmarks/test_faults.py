"""The fault report, small: the same agents, network and comparison as with ten million points."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_duplicated_or_altered(seed: int, tmp_path: Path) -> None:
    """A hundred thousand points of four agents through every kind of fault, with a collector that dies: all are there, once, to
    the bit, and the ledger adds up."""
    results = tmp_path / "faults.json"
    words = ["--points", "100000", "--agents", "4", "--seconds", "12", "--seed", str(seed), "--results", str(results)]
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(results.read_text())["sqlite"]
    assert found["verdict"] == {"points": 100_000, "lost": 0, "duplicated": 0, "altered": 0}
    assert found["is_conserved"]
    assert found["is_clean"]
    assert found["kills"] >= 1
    assert sum(row["injected"] > 0 for row in found["faults"]) >= 6
