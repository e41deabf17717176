"""Gradient accumulation: several small batches make one step of the optimizer.

With ``--sum`` the losses are not divided by their number. Either way the recorded loss of a step is what the step descended: the
sum of what was backwarded for it.
"""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import looptap

looptap.autolog()

LR = 0.02
ACCUMULATE = 4
EPOCHS = 2
BATCH_SIZE = 16


def main() -> None:
    divisor = 1 if "--sum" in sys.argv else ACCUMULATE
    torch.manual_seed(1)
    inputs = torch.randn(512, 8)
    targets = inputs @ torch.randn(8, 1) + 0.1 * torch.randn(512, 1)
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=BATCH_SIZE, shuffle=True)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)

    step = 0
    total = 0.0
    for _ in range(EPOCHS):
        for index, (x, y) in enumerate(loader):
            loss = nn.functional.mse_loss(model(x), y)
            loss = loss / divisor
            loss.backward()
            total += loss.item()
            if (index + 1) % ACCUMULATE == 0:
                optimizer.step()
                optimizer.zero_grad()
                print(f"step {step} loss {total!r}")
                step += 1
                total = 0.0


if __name__ == "__main__":
    main()
