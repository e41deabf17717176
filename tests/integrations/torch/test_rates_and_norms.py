"""Learning rates and gradient norms: those that the step used."""

from __future__ import annotations

import torch
from torch import nn

from integrations.recording import Recording
from integrations.torch.loops import regression


def test_learning_rates(record: Recording) -> None:
    """The rate that a step used, written when it changes; by group where there are several."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(
        [{"params": [model.weight], "lr": 0.1, "name": "weights"}, {"params": [model.bias], "lr": 0.2}]
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    for _ in range(4):
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        scheduler.step()
    assert record.series("lr", group="weights") == [(0, 0.1), (2, 0.05)]
    assert record.series("lr", group="1") == [(0, 0.2), (2, 0.1)]
    assert record.params_by_key()["optimizer.group1.lr"] == 0.2


def test_learning_rate_in_a_tensor(record: Recording) -> None:
    """A rate that lives in a tensor is read when the tensor changes."""
    weight = torch.ones(1, requires_grad=True)
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam([weight], lr=rate, capturable=False, foreach=False)
    for step in range(4):
        weight.sum().backward()
        optimizer.step()
        if step == 1:
            rate.fill_(0.25)
    assert record.series("lr") == [(0, 0.5), (2, 0.25)]


def test_gradient_norm_of_the_programs_own_clipping(record: Recording) -> None:
    """What clip_grad_norm_ returned belongs to the step that follows; steps without clipping have none."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for step in range(4):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        if step != 2:
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            truth.append((step, norm.item()))
        optimizer.step()
    assert record.series("grad_norm") == truth
    assert record.params_by_key()["grad_clip.max_norm"] == 0.5


def test_clipping_in_two_parts(record: Recording) -> None:
    """Two clippings for one step are two series."""
    model, x, y = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    nn.functional.mse_loss(model(x), y).backward()
    first = nn.utils.clip_grad_norm_([model.weight], 0.5).item()
    second = nn.utils.clip_grad_norm_([model.bias], 0.5).item()
    optimizer.step()
    assert record.series("grad_norm") == [(0, first)]
    assert record.series("grad_norm", call="1") == [(0, second)]
