"""One training process for the benchmarks: a plain loop, with or without a logger. Prints one line of JSON.

    python benchmarks/loop.py LOGGER STEPS [BATCH]

The loop is an MLP 64-256-256-10 on random data through a DataLoader, Adam, one thread. The peers get what their users
would hand them at each step: the loss and the learning rate. looptap gets nothing but ``autolog()``, and records all it can.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable

import psutil
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

Log = Callable[[int, torch.Tensor, float], None]


def nothing(step: int, loss: torch.Tensor, lr: float) -> None:
    """The off-twin: the same loop, nothing handed over."""


def open_logger(name: str, folder: str) -> tuple[Log, Callable[[], None]]:
    """What to call at each step, and at the end."""
    if name == "off":
        return nothing, lambda: None
    if name.startswith("looptap"):
        import looptap

        store = "off" if name == "looptap-nosink" else os.path.join(folder, "store")
        looptap.autolog(store=store, journal=os.path.join(folder, "journal"), quiet=True)
        return nothing, looptap.end_run
    if name == "trackio":
        os.environ["TRACKIO_DIR"] = folder
        import trackio

        trackio.init(project="bench", embed=False)
        return lambda step, loss, lr: trackio.log({"loss": loss.item(), "lr": lr}, step=step), trackio.finish
    if name == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(folder)

        def log(step: int, loss: torch.Tensor, lr: float) -> None:
            writer.add_scalar("loss", loss.item(), step)
            writer.add_scalar("lr", lr, step)

        return log, writer.close
    if name == "wandb":
        os.environ["WANDB_SILENT"] = "true"
        import wandb

        run = wandb.init(mode="offline", dir=folder, project="bench")
        return lambda step, loss, lr: run.log({"loss": loss.item(), "lr": lr}, step=step), run.finish
    if name == "mlflow":
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.start_run()
        return (
            lambda step, loss, lr: mlflow.log_metrics({"loss": loss.item(), "lr": lr}, step=step),
            mlflow.end_run,
        )
    raise SystemExit(f"no such logger: {name}")


def main(name: str, steps: int, batch_size: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(64 * batch_size, 64), torch.randint(0, 10, (64 * batch_size,)))
    loader = DataLoader(data, batch_size=batch_size)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    folder = tempfile.mkdtemp(prefix="looptap-bench-")
    # Peers print to stdout; our one line must stay readable.
    with contextlib.redirect_stdout(sys.stderr):
        log, close = open_logger(name, folder)
        ends: list[int] = []
        step = 0
        gc.collect()
        while step < steps:
            for inputs, labels in loader:
                optimizer.zero_grad()
                loss = criterion(model(inputs), labels)
                loss.backward()
                optimizer.step()
                log(step, loss, optimizer.param_groups[0]["lr"])
                ends.append(time.perf_counter_ns())
                step += 1
                if step == steps:
                    break
        peak = psutil.Process().memory_info().rss
        closing = time.perf_counter()
        close()
        closed = time.perf_counter() - closing
    # The first 200 steps warm caches and allocators up, with and without a logger.
    durations = [later - earlier for earlier, later in zip(ends[200:], ends[201:], strict=False)]
    checksum = sum(float(parameter.double().sum()) for parameter in model.parameters())
    print(
        json.dumps(
            {
                "durations_ns": durations,
                "rss_bytes": peak,
                "close_seconds": closed,
                "checksum": checksum.hex(),
                "first_200_seconds": (ends[200] - ends[0]) / 1e9,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 64)
