"""Loops of other kinds of learning. Each writes down its own losses; what is recorded is the same, and so are the weights with and
without us, to the last bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from torch import nn

from integrations.recording import recorded
from looptap_integrations.torch import TorchIntegration

#: Losses by name and step, as the loop itself has them, and what it has trained.
Outcome: TypeAlias = tuple[dict[str, list[tuple[int, float]]], list[nn.Module]]


def numbered(values: list[float]) -> list[tuple[int, float]]:
    return list(enumerate(values))


def policy_gradient() -> Outcome:
    """Episodes of varying length; one update at the end of each, from all of its log-probabilities."""
    policy = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
    truth = []
    for episode in range(6):
        log_probabilities, rewards = [], []
        state = torch.randn(2)
        for _ in range(2 + episode % 3):
            distribution = torch.distributions.Categorical(logits=policy(state))
            action = distribution.sample()
            log_probabilities.append(distribution.log_prob(action))
            rewards.append(float(action) - 0.5)
            state = torch.randn(2)
        policy_loss = torch.stack([-p * sum(rewards) for p in log_probabilities]).sum()
        optimizer.zero_grad()
        policy_loss.backward()
        optimizer.step()
        truth.append(policy_loss.item())
    return {"policy_loss": numbered(truth)}, [policy]


def actor_critic() -> Outcome:
    """Two losses with an optimizer each, some of them several times an episode: every update has its place."""
    actor, critic = nn.Linear(2, 2), nn.Linear(2, 1)
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.01) for model in (actor, critic)]
    actor_losses, critic_losses = [], []
    for _ in range(4):
        states, returns = torch.randn(5, 2), torch.randn(5, 1)
        critic_loss = nn.functional.mse_loss(critic(states), returns)
        optimizers[1].zero_grad()
        critic_loss.backward()
        optimizers[1].step()
        advantage = (returns - critic(states)).detach()
        actor_loss = -(actor(states).log_softmax(1)[:, :1] * advantage).mean()
        optimizers[0].zero_grad()
        actor_loss.backward()
        optimizers[0].step()
        critic_losses.append(critic_loss.item())
        actor_losses.append(actor_loss.item())
    return {"critic_loss": numbered(critic_losses), "actor_loss": numbered(actor_losses)}, [actor, critic]


def siamese() -> Outcome:
    """One network, three views of the data, a contrastive loss."""
    encoder = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.01)
    criterion = nn.TripletMarginLoss()
    truth = []
    for _ in range(5):
        anchor = torch.randn(8, 4)
        contrastive = criterion(encoder(anchor), encoder(anchor + 0.1 * torch.randn(8, 4)), encoder(torch.randn(8, 4)))
        optimizer.zero_grad()
        contrastive.backward()
        optimizer.step()
        truth.append(contrastive.item())
    return {"contrastive": numbered(truth)}, [encoder]


def meta_learning() -> Outcome:
    """Model-agnostic meta-learning: inner steps by ``autograd.grad``, which are none; the outer one is the step."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(4):
        optimizer.zero_grad()
        meta_loss = torch.zeros(())
        for _ in range(3):
            x, y = torch.randn(8, 2), torch.randn(8, 1)
            weights = dict(model.named_parameters())
            for _ in range(2):
                inner = nn.functional.mse_loss(torch.func.functional_call(model, weights, (x,)), y)
                gradients = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
                weights = {name: w - 0.05 * g for (name, w), g in zip(weights.items(), gradients, strict=True)}
            meta_loss = meta_loss + nn.functional.mse_loss(torch.func.functional_call(model, weights, (x,)), y)
        meta_loss.backward()
        optimizer.step()
        truth.append(meta_loss.item())
    return {"meta_loss": numbered(truth)}, [model]


def truncated_backpropagation() -> Outcome:
    """A sequence in pieces: several backward passes with a detached state, then one step."""
    cell = nn.GRUCell(3, 4)
    optimizer = torch.optim.RMSprop(cell.parameters(), lr=0.01)
    truth = []
    for _ in range(3):
        optimizer.zero_grad()
        hidden, total = torch.zeros(2, 4), 0.0
        for piece in torch.randn(9, 2, 3).split(3):
            hidden = hidden.detach()
            for x in piece:
                hidden = cell(x, hidden)
            loss = hidden.square().mean()
            loss.backward()
            total += loss.item()
        optimizer.step()
        truth.append(total)
    return {"loss": numbered(truth)}, [cell]


def truncated_with_a_step_each() -> Outcome:
    """The same with a step for each piece of a sequence, of varying number."""
    cell = nn.GRUCell(3, 4)
    optimizer = torch.optim.SGD(cell.parameters(), lr=0.01)
    truth = []
    for length in (2, 4, 1):
        hidden = torch.zeros(2, 4)
        for x in torch.randn(length, 2, 3):
            hidden = cell(x, hidden.detach())
            loss = hidden.square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(cell.parameters(), 0.5)
            optimizer.step()
            truth.append(loss.item())
    return {"loss": numbered(truth)}, [cell]


def averaged_with_a_schedule() -> Outcome:
    """An exponential moving average of the weights beside the model, and a schedule by step."""
    model = nn.Linear(3, 1)
    averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=6)
    truth, rates = [], []
    for _ in range(6):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 3)).square().mean()
        loss.backward()
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
        averaged.update_parameters(model)
        truth.append(loss.item())
    return {"loss": numbered(truth), "lr": numbered(rates)}, [model, averaged]


def checkpointed() -> Outcome:
    """Activations computed again in the backward pass, without reentrance; dropout draws the same numbers."""
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(4):
        optimizer.zero_grad()
        x = torch.randn(8, 3)
        hidden = torch.utils.checkpoint.checkpoint(model[:3], x, use_reentrant=False)
        loss = model[3](hidden).square().mean()
        loss.backward()
        optimizer.step()
        truth.append(loss.item())
    return {"loss": numbered(truth)}, [model]


def reduced_precision() -> Outcome:
    """bfloat16 by autocast, without a scaler, with accumulation."""
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    truth = []
    for _ in range(3):
        optimizer.zero_grad()
        total = 0.0
        for _ in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(torch.randn(8, 3)).square().mean() / 2
            loss.backward()
            total += loss.item()
        optimizer.step()
        truth.append(total)
    return {"loss": numbered(truth)}, [model]


def scaler_with_two_optimizers() -> Outcome:
    """One GradScaler for both, float16; an update of the scale after both steps."""
    one, two = nn.Linear(3, 1), nn.Linear(3, 1)
    first = torch.optim.SGD(one.parameters(), lr=0.1)
    second = torch.optim.SGD(two.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
    losses_one, losses_two = [], []
    for _ in range(4):
        first.zero_grad()
        second.zero_grad()
        x = torch.randn(8, 3)
        with torch.autocast("cpu", dtype=torch.float16):
            loss_one = one(x).float().square().mean()
            loss_two = two(x).float().square().mean()
        scaler.scale(loss_one).backward()
        scaler.scale(loss_two).backward()
        scaler.step(first)
        scaler.step(second)
        scaler.update()
        losses_one.append(loss_one.item())
        losses_two.append(loss_two.item())
    return {"loss_one": numbered(losses_one), "loss_two": numbered(losses_two)}, [one, two]


def optimizer_in_backward() -> Outcome:
    """Each parameter is stepped as soon as its gradient is there, and the gradient dropped."""
    model = nn.Linear(3, 1)
    of = {parameter: torch.optim.SGD([parameter], lr=0.1) for parameter in model.parameters()}

    def step(parameter: torch.Tensor) -> None:
        of[parameter].step()
        of[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    truth = []
    for _ in range(4):
        loss = model(torch.randn(8, 3)).square().mean()
        loss.backward()
        truth.append(loss.item())
    return {"loss": numbered(truth)}, [model]


def distillation() -> Outcome:
    """A teacher without gradients, and a student with a sum of two losses under one name."""
    teacher, student = nn.Linear(3, 4), nn.Linear(3, 4)
    ema = copy.deepcopy(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    truth = []
    for _ in range(4):
        x, y = torch.randn(8, 3), torch.randint(0, 4, (8,))
        with torch.no_grad():
            target = teacher(x).softmax(1)
        output = student(x)
        hard = nn.functional.cross_entropy(output, y)
        soft = nn.functional.kl_div(output.log_softmax(1), target, reduction="batchmean")
        optimizer.zero_grad()
        total = hard + 0.5 * soft
        total.backward()
        optimizer.step()
        with torch.no_grad():
            for mean, current in zip(ema.parameters(), student.parameters(), strict=True):
                mean.lerp_(current, 0.1)
        truth.append(total.item())
    return {"total": numbered(truth)}, [student, ema]


SHAPES: list[Callable[[], Outcome]] = [
    policy_gradient,
    actor_critic,
    siamese,
    meta_learning,
    truncated_backpropagation,
    truncated_with_a_step_each,
    averaged_with_a_schedule,
    checkpointed,
    reduced_precision,
    scaler_with_two_optimizers,
    optimizer_in_backward,
    distillation,
]


def bits(models: list[nn.Module]) -> list[bytes]:
    return [
        tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        for model in models
        for tensor in model.state_dict().values()
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_are_those_of_the_loop(shape: Callable[[], Outcome]) -> None:
    """Each loss under its name at its step, and nothing else that could be taken for one; the program is not disturbed."""
    torch.manual_seed(3)
    expected, models = shape()
    bare, state = bits(models), torch.get_rng_state()
    with recorded(TorchIntegration) as record:
        torch.manual_seed(3)
        truth, models = shape()
    assert bits(models) == bare
    assert torch.equal(torch.get_rng_state(), state)
    assert truth == expected
    for name, series in truth.items():
        assert sorted((step, value) for key, step, value, _ in record.points if key == name) == series
    ours = {"lr", "step_time", "grad_norm", "amp_scale", "epoch"}
    assert {name for name in record.names() if not name.startswith("time.")} - ours == set(truth) - ours
