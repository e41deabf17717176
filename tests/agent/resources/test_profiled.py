"""From the driver to the profile: a real training on a machine whose GPUs are not there, asked what held it back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from programs import Programs

WATTS = 250
TRAINING = """
import time
import torch, looptap
from looptap.resources import sampler
sampler.SHARE = 1.0  # however much that costs on a busy machine
looptap.autolog()
layer = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
for step in range(200):
    loss = layer(torch.ones(2, 4)).pow(2).mean()
    loss.backward()
    optimizer.step()
    time.sleep(0.02)
"""


def test_gpus_in_the_profile(programs: Programs, driver: Callable[..., Path]) -> None:
    """The GPU that is hot, the one that is idle, and the joules of both: power times the time between the first sample and the
    last. Cost and CO2e by the settings of the run."""
    pytest.importorskip("torch")
    done = programs.python(
        TRAINING,
        LOOPTAP_RESOURCES="1",
        LOOPTAP_SAMPLE_SECONDS="0.1",
        LOOPTAP_GRID_KG_PER_KWH="0.5",
        LD_LIBRARY_PATH=str(driver()),
        CUDA_VISIBLE_DEVICES="1,0",
        FAKE_NVML_DEVICES="2",
        FAKE_NVML_UTILIZATION_0="10",
        FAKE_NVML_UTILIZATION_1="90",
        FAKE_NVML_THROTTLE_1="64",
        FAKE_NVML_POWER=str(WATTS * 1000),
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(programs.looptap("profile", "--json", "--price", "3600").stdout)
    says = {finding["rule"]: finding["says"] for finding in told["findings"]}
    # As the program counts them: its GPU 0 is the machine's GPU 1.
    assert says["gpu_idle"].startswith("GPU 1 computed 10 % of the time")
    assert says["gpu_heat_throttled"].startswith("GPU 0 was too hot")
    table = programs.record()["metrics"]
    assert table["system.gpu.0.energy"]["count"] >= 5
    energy = told["energy"]
    assert {"GPU 0", "GPU 1"} <= set(energy["of"])
    assert energy["of"]["GPU 0"] == pytest.approx(WATTS * told["duration_seconds"], rel=0.2)
    assert energy["co2e_kg"] == pytest.approx(energy["joules"] / 3.6e6 * 0.5)
    assert energy["joules_per_step"] * 200 == pytest.approx(energy["joules"], rel=0.3)
    assert told["cost"]["total"] == pytest.approx(told["duration_seconds"])
