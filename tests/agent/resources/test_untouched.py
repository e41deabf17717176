"""A training beside which ten samples a second are taken makes the same weights, bit for bit."""

from __future__ import annotations

import pytest

from programs import Programs

pytest.importorskip("torch")

PROGRAM = """
import hashlib, os, sys
import torch
from torch.utils.data import DataLoader, TensorDataset
if os.environ["WITH"] == "1":
    import looptap
    from looptap.resources import sampler
    sampler.SHARE = 1.0
    looptap.autolog()
torch.manual_seed(5)
model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Dropout(0.2), torch.nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters())
loader = DataLoader(TensorDataset(torch.randn(4000, 16), torch.randn(4000, 1)), batch_size=8, shuffle=True, num_workers=2)
for _ in range(2):
    for features, targets in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(features), targets)
        loss.backward()
        optimizer.step()
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
"""


def test_the_same_weights(programs: Programs) -> None:
    """With data-loader workers, whose processes are in the samples; the steps of the run are the training's."""
    without = programs.python(PROGRAM, WITH="0")
    beside = programs.python(PROGRAM, WITH="1", LOOPTAP_RESOURCES="1", LOOPTAP_SAMPLE_SECONDS="0.1")
    assert beside.returncode == 0, beside.stderr
    assert without.stdout == beside.stdout != ""
    metrics = programs.record()["metrics"]
    assert (metrics["loss"]["first_step"], metrics["loss"]["last_step"], metrics["loss"]["count"]) == (0, 999, 1000)
    assert metrics["system.process.processes"]["max"] >= 3
