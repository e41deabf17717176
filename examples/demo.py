"""What ``make demo`` runs: train a small convolutional network, then look at what was recorded.

The training part is an ordinary PyTorch program. It makes its own data, noisy pictures of four shapes, and knows nothing of
looptap but one line. Everything after ``if __name__`` only shows the record.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import looptap

looptap.autolog(experiment="demo")

IMAGE_SIZE = 16
NOISE = 0.7


def make_shapes(count: int, generator: torch.Generator) -> TensorDataset:
    """Pictures (count, 1, 16, 16) of a horizontal bar, a vertical bar, a cross or a ring, in noise; labels 0 to 3."""
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = NOISE * torch.randn(count, 1, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(IMAGE_SIZE), torch.arange(IMAGE_SIZE), indexing="ij")
    centres = torch.randint(5, 11, (count, 2), generator=generator)
    for image, label, (row, column) in zip(images, labels, centres, strict=True):
        down, across = (rows - row).abs(), (columns - column).abs()
        horizontal, vertical = (down < 1) & (across < 5), (across < 1) & (down < 5)
        ring = ((down**2 + across**2).float().sqrt() - 4).abs() < 0.8
        image[0] += (horizontal, vertical, horizontal | vertical, ring)[int(label)].float()
    return TensorDataset(images, labels)


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    train_loader = DataLoader(make_shapes(4096, generator), batch_size=arguments.batch_size, shuffle=True)
    test_images, test_labels = make_shapes(1024, generator).tensors

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, 4),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=arguments.lr, total_steps=arguments.epochs * len(train_loader)
    )
    criterion = nn.CrossEntropyLoss()

    for epoch in range(arguments.epochs):
        model.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(test_images).argmax(1) == test_labels).float().mean().item()
        looptap.log_metric("test_accuracy", accuracy)
        print(f"epoch {epoch}: last loss {loss.item():.3f}, test accuracy {accuracy:.1%}")

    output = Path("demo-output")
    output.mkdir(exist_ok=True)
    torch.save(model.state_dict(), output / "shapes.pt")


def show() -> None:
    """The record of the run that has just ended, as anybody would look at it."""
    run = looptap.get_run("latest")
    looptap_command = Path(sys.executable).with_name("looptap")
    print(f"\n$ looptap show {run.name}\n", flush=True)
    subprocess.run([str(looptap_command), "show", run.name], check=True)
    command = looptap_command.relative_to(Path.cwd()) if looptap_command.is_relative_to(Path.cwd()) else "looptap"
    print(f"\nThe same as a page with live charts:  {command} ui")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a small network on shapes that this script draws itself.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())
    looptap.end_run()
    show()
