"""A training whose memory creeps: it notes how much better each step has made the loss, and with each note it keeps the whole
graph behind it.

Run it with ``python examples/held_back_by_memory.py``, then ask what held it back: ``looptap profile``.
"""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import looptap

looptap.autolog()

SAMPLES = 2048
FEATURES = 1024
SECONDS = 20


def main() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(SAMPLES, FEATURES)
    targets = inputs.norm(dim=1, keepdim=True)
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=64, shuffle=True)
    model = nn.Sequential(nn.Linear(FEATURES, 2048), nn.Tanh(), nn.Linear(2048, 1024), nn.Tanh(), nn.Linear(1024, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    criterion = nn.MSELoss()
    gains = []
    started = time.monotonic()
    while time.monotonic() - started < SECONDS:
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            gains.append(loss - criterion(model(x), y))
        print(f"{len(gains)} steps: loss {loss.item():.3f}, mean gain {torch.stack(gains).mean().item():.3f}")


if __name__ == "__main__":
    main()
