"""L-BFGS: the optimizer evaluates the loss several times in one step, through a closure.

The loss of a step is that of the first evaluation: the loss at the weights which the step began with.
"""

import torch
from torch import nn

import looptap

looptap.autolog()

STEPS = 12


def main() -> None:
    torch.manual_seed(3)
    x = torch.linspace(-2, 2, 100).unsqueeze(1)
    y = torch.sin(2 * x)
    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)

    for step in range(STEPS):
        evaluations = 0

        def closure() -> torch.Tensor:
            nonlocal evaluations
            evaluations += 1
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss

        # step() returns the loss of the first evaluation.
        first = optimizer.step(closure)
        print(f"step {step} loss {first.item()!r} closure_evaluations {float(evaluations)!r}")


if __name__ == "__main__":
    main()
