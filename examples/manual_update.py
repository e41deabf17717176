"""A hand-written update rule, without any optimizer: each backward pass is a step."""

import torch

import looptap

looptap.autolog()

LEARNING_RATE = 0.1
STEPS = 30

torch.manual_seed(5)
x = torch.randn(200, 3)
y = x @ torch.tensor([1.0, -2.0, 0.5]) + 3.0
weights = torch.zeros(3, requires_grad=True)
bias = torch.zeros((), requires_grad=True)

for step in range(STEPS):
    loss = ((x @ weights + bias - y) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        for parameter in (weights, bias):
            assert parameter.grad is not None
            parameter -= LEARNING_RATE * parameter.grad
            parameter.grad = None
    print(f"step {step} loss {loss.item()!r}")
