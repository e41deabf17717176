"""A training that is held back by its data: every picture is made from a file in the main process, and the model waits for it.

Run it with ``python examples/held_back_by_loader.py``, then ask what held it back: ``looptap profile``.
"""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import looptap

looptap.autolog()

CLASSES = 10
EPOCHS = 2


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Stands for a folder of pictures on a slow disk."""

    def __len__(self) -> int:
        return 640

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        time.sleep(0.005)
        return torch.rand(3, 16, 16), index % CLASSES


def main() -> None:
    torch.manual_seed(0)
    loader = DataLoader(Pictures(), batch_size=16, shuffle=True)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 8 * 8, CLASSES)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(EPOCHS):
        for pictures, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(pictures), labels)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
