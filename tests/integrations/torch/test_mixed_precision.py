"""GradScaler: the loss before the scale, the scale, and what was skipped."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import nn

from integrations.recording import Recording
from integrations.torch.loops import HAS_FUSED, numbered, regression


@pytest.mark.parametrize("kind", [torch.amp.GradScaler, importlib.import_module("torch.cpu.amp").GradScaler])
@pytest.mark.parametrize("fused", [False, True] if HAS_FUSED else [False])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_grad_scaler(record: Recording, kind: Any, fused: bool) -> None:
    """The loss is the one before scaling; the scale in use is written when it changes, and skipped steps are marked."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    device = ("cpu",) if kind is torch.amp.GradScaler else ()
    scaler = kind(*device, init_scale=1024.0, growth_interval=2)
    truth, skipped = [], []
    scales: list[tuple[int, float]] = []
    for step in range(6):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        scaler.scale(loss).backward()
        if step == 3:
            assert model.weight.grad is not None
            model.weight.grad.fill_(float("inf"))
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        truth.append(loss.item())
        if not scales or scales[-1][1] != scale:
            scales.append((step, scale))
        if scaler.get_scale() < scale:
            skipped.append((step, 1.0))
    assert record.series("loss") == numbered(truth)
    assert record.series("amp_scale") == scales
    assert record.series("amp_skipped") == skipped == [(3, 1.0)]


def test_scaled_loss_that_is_changed_before_backward(record: Recording) -> None:
    """``scaler.scale(loss / n)`` and ``scaler.scale(loss) / n`` both give the value without the scale."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    loss = nn.functional.mse_loss(model(x), y)
    scaler.scale(loss / 4).backward()
    scaler.step(optimizer)
    scaler.update()
    first = (loss / 4).item()
    loss = nn.functional.mse_loss(model(x), y)
    (scaler.scale(loss) / 4).backward()
    scaler.step(optimizer)
    scaler.update()
    assert record.series("loss") == [(0, first), (1, (loss / 4).item())]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_disabled_cuda_scaler(record: Recording) -> None:
    """torch.cuda.amp.GradScaler without CUDA does nothing, and so do we."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.cuda.amp.GradScaler(enabled=False)
    truth = []
    for _ in range(3):
        loss = nn.functional.mse_loss(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        truth.append(loss.item())
    assert record.series("loss") == numbered(truth)
    assert "amp_scale" not in record.names()
