"""Mixed precision: bfloat16 under autocast, and a GradScaler that has to skip a step.

The recorded loss is the one before scaling. A step that the scaler skips has its loss and its number like any other, and
``amp_skipped`` marks it.
"""

import torch
from torch import nn

import looptap

looptap.autolog()

LR = 0.05
STEPS = 20


def main() -> None:
    torch.manual_seed(4)
    x = torch.randn(128, 10)
    y = torch.randint(0, 3, (128,))
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=5)

    for step in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        if step == 7:  # something overflowed
            next(model.parameters()).grad.fill_(float("inf"))  # type: ignore[union-attr]
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        skipped = scaler.get_scale() < scale
        print(f"step {step} loss {loss.item()!r} amp_scale {scale!r} amp_skipped {float(skipped)!r}")


if __name__ == "__main__":
    main()
