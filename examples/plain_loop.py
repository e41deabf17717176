"""A plain training loop: a small network learns to tell two moons apart.

Run it with ``python examples/plain_loop.py``, then look at the record with ``looptap show latest``.
"""

import argparse
import math

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset

import looptap

looptap.autolog()

HIDDEN = 32
MAX_NORM = 1.0


def two_moons(count: int) -> TensorDataset:
    angle = torch.rand(count) * math.pi
    side = torch.randint(0, 2, (count,))
    x = torch.where(side == 0, angle.cos(), 1 - angle.cos())
    y = torch.where(side == 0, angle.sin(), 0.5 - angle.sin())
    return TensorDataset(torch.stack([x, y], dim=1) + 0.1 * torch.randn(count, 2), side)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train_loader = DataLoader(two_moons(1000), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(two_moons(200), batch_size=200)
    model = nn.Sequential(nn.Linear(2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    criterion = nn.CrossEntropyLoss()

    step = 0
    for epoch in range(args.epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            norm = clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            print(f"step {step} loss {loss.item()!r} grad_norm {norm.item()!r}")
            step += 1
        scheduler.step()

        model.eval()
        with torch.no_grad():
            x, y = next(iter(test_loader))
            accuracy = (model(x).argmax(dim=1) == y).float().mean().item()
        looptap.log_metric("accuracy", accuracy)
        print(f"epoch {epoch}: accuracy {accuracy:.3f}")

    torch.save(model.state_dict(), "two-moons.pt")


if __name__ == "__main__":
    main()
