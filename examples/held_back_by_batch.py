"""A training that is held back by its batch size: two samples at once, so that most of a step is the optimizer's.

Run it with ``python examples/held_back_by_batch.py``, then ask what held it back: ``looptap profile``.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import looptap

looptap.autolog()

SAMPLES = 80
FEATURES = 1024
LAYERS = 4
EPOCHS = 2


def main() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(SAMPLES, FEATURES)
    targets = inputs[:, :1] * inputs[:, 1:2]
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=2, shuffle=True)
    layers = [part for _ in range(LAYERS) for part in (nn.Linear(FEATURES, FEATURES), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(FEATURES, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = nn.MSELoss()
    for epoch in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
