"""Several optimizers: which step a loss belongs to, and what makes a new round or a new phase."""

from __future__ import annotations

import torch
from torch import nn

from integrations.recording import Recording
from integrations.torch.loops import numbered, regression


def test_gan(record: Recording) -> None:
    """Two optimizers, three losses: one number per round, and what belongs to one optimizer has its name as context."""
    netD, netG = nn.Linear(2, 1), nn.Linear(2, 2)
    optimizerD = torch.optim.Adam(netD.parameters(), lr=0.01)
    optimizerG = torch.optim.Adam(netG.parameters(), lr=0.02)
    truth: dict[str, list[float]] = {"errD_real": [], "errD_fake": [], "errG": []}
    for _ in range(4):
        optimizerD.zero_grad()
        errD_real = netD(torch.randn(8, 2)).square().mean()
        errD_real.backward()
        drawn = netG(torch.randn(8, 2))
        errD_fake = netD(drawn.detach()).square().mean()
        errD_fake.backward()
        optimizerD.step()
        optimizerG.zero_grad()
        errG = (netD(drawn) - 1).square().mean()
        errG.backward()
        optimizerG.step()
        for name, value in (("errD_real", errD_real), ("errD_fake", errD_fake), ("errG", errG)):
            truth[name].append(value.item())
    for name, values in truth.items():
        assert record.series(name) == numbered(values)
    assert record.series("lr", optimizer="optimizerD") == [(0, 0.01)]
    assert record.series("lr", optimizer="optimizerG") == [(0, 0.02)]
    params = record.params_by_key()
    assert params["optimizerD.lr"] == 0.01
    assert params["optimizerG.lr"] == 0.02
    assert params["netD.parameters"] == 3
    assert params["netG.parameters"] == 6


def test_two_optimizers_with_one_helper(record: Recording) -> None:
    """Where a helper function makes every loss the same name, the second optimizer's is a series of its own."""
    one, two = nn.Linear(2, 1), nn.Linear(2, 1)
    first = torch.optim.SGD(one.parameters(), lr=0.1)
    second = torch.optim.SGD(two.parameters(), lr=0.1)
    truth: list[list[float]] = [[], []]

    def update(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(3):
        for index, (model, optimizer) in enumerate(((one, first), (two, second))):
            loss = model(torch.randn(4, 2)).square().mean()
            update(loss, optimizer)
            truth[index].append(loss.item())
    assert record.series("loss") == numbered(truth[0])
    contexts = {tuple(where.items()) for key, _, _, where in record.points if key == "loss" and where}
    assert len(contexts) == 1
    assert record.series("loss", **dict(contexts.pop())) == numbered(truth[1])


def test_folds_of_a_cross_validation(record: Recording) -> None:
    """Each fold has a new model and optimizer; steps go on."""
    truth = []
    for _ in range(3):
        model, x, y = regression()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            truth.append(loss.item())
    assert record.series("loss") == numbered(truth)


def test_adam_then_lbfgs(record: Recording) -> None:
    """Two phases: the steps of the second follow those of the first."""
    model, x, y = regression()
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    lbfgs = torch.optim.LBFGS(model.parameters(), max_iter=3)
    truth: dict[str, list[float]] = {"first": [], "second": []}
    for _ in range(6):
        adam.zero_grad()
        first = nn.functional.mse_loss(model(x), y)
        first.backward()
        adam.step()
        truth["first"].append(first.item())

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        second = nn.functional.mse_loss(model(x), y)
        second.backward()
        evaluated.append(second.item())
        return second

    evaluated: list[float] = []
    for _ in range(3):
        evaluated = []
        lbfgs.step(closure)
        truth["second"].append(evaluated[0])
    assert record.series("first") == numbered(truth["first"])
    assert record.series("second") == [(6 + step, value) for step, value in enumerate(truth["second"])]
    assert record.step == 5 + len(truth["second"])


def test_phases_in_every_epoch(record: Recording) -> None:
    """Two loops in turn, in each epoch: every step has a number of its own."""
    model, x, y = regression()
    optimizers = [torch.optim.SGD([parameter], lr=0.1) for parameter in model.parameters()]
    truth = []
    for _ in range(2):
        for _ in range(3):
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizers[0].step()
            truth.append(loss.item())
        for _ in range(2):
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizers[1].step()
            truth.append(loss.item())
    found = sorted((at, value) for key, at, value, _ in record.points if key == "loss")
    assert found == numbered(truth)


def test_optimizers_that_step_inside_of_backward(record: Recording) -> None:
    """One optimizer per parameter, stepped as soon as its gradient is there: the loss belongs to that round."""
    model, x, y = regression()
    of: dict[torch.Tensor, torch.optim.SGD] = {
        parameter: torch.optim.SGD([parameter], lr=0.1) for parameter in model.parameters()
    }

    def step(parameter: torch.Tensor) -> None:
        of[parameter].step()
        of[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    truth = []
    for _ in range(5):
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        truth.append(loss.item())
    losses = [(at, value) for key, at, value, _ in record.points if key == "loss"]
    assert losses == numbered(truth)
