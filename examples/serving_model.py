"""What the two examples of serving have in common: a small classifier with its training, and clients that ask it.

Customers are eight numbers; the classifier tells which of three things they want. Later, other customers come.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import looptap

WEIGHTS = Path("serving-output") / "intent.pt"
FEATURES = 8
ROWS = 16


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 3))


def customers(count: int, generator: torch.Generator) -> TensorDataset:
    """Numbers (count, 8), and what they want: 0, 1 or 2."""
    rows = torch.randn(count, FEATURES, generator=generator)
    wants = (rows[:, 0] + rows[:, 1] > 0.5).long() + (rows[:, 2] - rows[:, 3] > 0.5).long()
    return TensorDataset(rows, wants)


def train() -> None:
    """An ordinary training: nothing in it speaks of serving."""
    looptap.autolog(experiment="serving example")
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    train_loader = DataLoader(customers(4_096, generator), batch_size=64, shuffle=True)
    validation_loader = DataLoader(customers(8_192, generator), batch_size=64)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    criterion = nn.CrossEntropyLoss()
    for _ in range(3):
        for rows, wants in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(rows), wants)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            validation_loss = sum(criterion(model(rows), wants).item() for rows, wants in validation_loader)
    print(f"trained: loss {loss.item():.3f}, validation loss {validation_loss / len(validation_loader):.3f}")
    WEIGHTS.parent.mkdir(exist_ok=True)
    torch.save(model.state_dict(), WEIGHTS)


def ask(port: int, seconds: float, shift: float) -> int:
    """Customers come for so long; ``shift`` is by how much they differ from those of the training. Returns how many came."""
    chance, asked = random.Random(shift), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        rows = [[chance.gauss(shift if place < 2 else 0.0, 1.0) for place in range(FEATURES)] for _ in range(ROWS)]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict", json.dumps(rows).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            asked += len(json.load(answer)["wants"])
        time.sleep(0.01)
    return asked


def show(server: subprocess.Popen[bytes], port: int) -> None:
    """Good customers, then others; what looptap says of it."""
    wait_for(port, server)
    print(f"good traffic: {ask(port, 15, shift=0.0):,} customers", flush=True)
    print(f"shifted traffic: {ask(port, 25, shift=1.0):,} customers", flush=True)
    server.terminate()
    server.wait(30)
    command = [sys.executable, "-m", "looptap", "serving", "intent", "--once", "--since", "10m"]
    print("\n$ looptap serving intent\n", flush=True)
    subprocess.run(command, check=True)


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except OSError:
            if server.poll() is not None:
                raise SystemExit("the server did not start") from None
            time.sleep(0.1)
