"""Three hours of training compressed into minutes: memory, threads and file descriptors must not grow.

    python benchmarks/soak.py                  # 10 minutes
    python benchmarks/soak.py --minutes 1      # shows that it works, and no more

Everything that looptap watches goes on in one process: runs that begin and end (one in five fails), a new model, optimizer and
DataLoader for each, epochs with a validation pass in between, clipping, schedules, GradScaler, checkpoints that are overwritten and
loaded again, metrics of the user, TensorBoard where it is installed, closures, exceptions in backward passes, ``suppress()``.

How the compression is counted: what could leak does so per step, or per epoch, run, file, loader. A step here takes well below
a millisecond, in training a hundred times that; so slopes are per *step*, and an hour is 120,000 steps (30 ms each, a small
model on a GPU). A run here has 1,600 steps, an epoch 200, in training many thousands: what leaks per run or epoch counts a
hundred times too much here, which is on the safe side. Three hours are 360,000 steps, which ten minutes must reach, or the
result says how many there were.

The slope is that of least squares through the resident size at the end of each run, after a warm-up of a fifth of the time. Before
that is read, the C library gives back what it holds of memory that is free (``malloc_trim``): with threads that come and go, how
much it happens to hold differs by megabytes from run to run.
Goals: less than 1 MB in an hour of 120,000 steps, threads and descriptors flat. Exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib.util
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import looptap

HERE = Path(__file__).parent
STEPS_PER_HOUR = 120_000
EPOCHS, BATCHES = 8, 200
GOAL_BYTES_PER_HOUR = 1e6


class Fails(torch.autograd.Function):
    """A backward pass that raises."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise ValueError("of the program")


def tensorboard(folder: str) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)


def train(folder: Path, number: int) -> int:
    """One run; returns its steps."""
    looptap.start_run(name=f"run {number}")
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 100)
    scaler = torch.amp.GradScaler("cpu", enabled=number % 3 == 0)
    criterion = nn.MSELoss()
    data = TensorDataset(torch.randn(BATCHES * 4, 8), torch.randn(BATCHES * 4, 1))
    writer = tensorboard(str(folder / "tensorboard")) if number % 10 == 0 else None
    steps = 0
    for epoch in range(EPOCHS):
        for inputs, target in DataLoader(data, batch_size=4, shuffle=True):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=epoch % 4 == 3):
                loss = criterion(model(inputs), target)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            steps += 1
            if writer is not None:
                writer.add_scalar("train/loss", loss.item(), steps)
        with contextlib.suppress(ValueError):
            Fails.apply(criterion(model(inputs), target)).backward()
        model.eval()
        with torch.no_grad():
            losses = [criterion(model(inputs), target).item() for inputs, target in DataLoader(data, batch_size=20)]
        model.train()
        looptap.log_metric("validation mean", sum(losses) / len(losses))
        looptap.log_param("epochs", epoch)
        with looptap.suppress():
            criterion(model(inputs), target).backward()
        checkpoint = folder / f"checkpoint {epoch % 2}.pt"
        torch.save({"model": model.state_dict(), "epoch": epoch}, checkpoint)
        torch.load(checkpoint)
    lbfgs = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        loss = criterion(model(inputs), target)
        loss.backward()
        return loss

    for _ in range(5):
        lbfgs.step(closure)
        steps += 1
    if writer is not None:
        writer.close()
    if number % 5 == 4:
        looptap.end_run(status="failed")
    else:
        looptap.end_run()
    return steps


def trim() -> None:
    """Give free memory back to the system, where the C library is glibc."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def slope(points: list[tuple[float, float]]) -> float:
    """Of the line of least squares."""
    count = len(points)
    mean_x, mean_y = (sum(values) / count for values in zip(*points, strict=True))
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return above / below if below else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--off", action="store_true", help="without looptap's hooks: what torch itself does to the memory"
    )
    parser.add_argument("--store", choices=("sqlite", "off"), default="sqlite")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    process = psutil.Process()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        store = "off" if arguments.store == "off" else str(folder / "store")
        looptap.autolog(store=store, journal=str(folder / "journal"), quiet=True)
        if arguments.off:
            looptap.stop()
        began = time.monotonic()
        end, warm = began + arguments.minutes * 60, began + arguments.minutes * 12
        # Of each run after the warm-up: steps so far, resident bytes, threads, descriptors.
        seen: list[tuple[int, int, int, int]] = []
        steps = number = 0
        while (now := time.monotonic()) < end or len(seen) < 3:
            steps += train(folder, number)
            number += 1
            gc.collect()
            trim()
            if now >= warm:
                seen.append((steps, process.memory_info().rss, threading.active_count(), process.num_fds()))
        looptap.stop()
    per_hour = slope([(at, size) for at, size, _, _ in seen]) * STEPS_PER_HOUR
    found = {
        "minutes": arguments.minutes,
        "off": arguments.off,
        "store": arguments.store,
        "runs": number,
        "steps": steps,
        "hours": steps / STEPS_PER_HOUR,
        "bytes_per_hour": per_hour,
        "resident_bytes": [seen[0][1], seen[-1][1]],
        "threads": [
            min(one[2] for one in seen),
            max(one[2] for one in seen),
            slope([(one[0], one[2]) for one in seen]),
        ],
        "descriptors": [
            min(one[3] for one in seen),
            max(one[3] for one in seen),
            slope([(one[0], one[3]) for one in seen]),
        ],
    }
    # A number that goes up and down is flat; one that grows does so by at least one in the second half.
    half = len(seen) // 2
    grown = [
        what
        for what, place in (("threads", 2), ("descriptors", 3))
        if min(one[place] for one in seen[half:]) > max(one[place] for one in seen[:half])
    ]
    print(
        f"{number} runs, {steps:,} steps ({found['hours']:.1f} hours of {STEPS_PER_HOUR:,}) in {arguments.minutes:g} minutes"
    )
    print(
        f"memory: {per_hour / 1e6:+.2f} MB/h; {seen[0][1] / 1e6:.1f} MB after the warm-up, {seen[-1][1] / 1e6:.1f} MB at the end"
    )
    for what in ("threads", "descriptors"):
        least, most, _ = found[what]  # type: ignore[misc]
        print(f"{what}: {least} to {most}{', GROWING' if what in grown else ''}")
    if not arguments.off:
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    is_missed = bool(grown) or per_hour >= GOAL_BYTES_PER_HOUR
    if is_missed:
        print("goal missed")
    raise SystemExit(1 if is_missed else 0)


if __name__ == "__main__":
    main()
