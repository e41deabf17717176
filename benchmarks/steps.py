"""What a logger adds to one step of a plain loop, told apart from the noise of the machine.

    python benchmarks/steps.py                  # looptap, on two loops
    python benchmarks/steps.py --peers          # and trackio, TensorBoard, W&B offline and MLflow on the first loop

Processes that are compared as wholes differ by more than a logger costs when the machine is shared. Here one process per logger
switches it on and off from step to step, so that both kinds of step meet the same machine; ``off again`` is a second group of steps
without it, and shows how far two equal groups lie apart. A hook of looptap that is switched off still costs its wrapper, about 1 µs
a step in all. looptap records all that it can; the peers are handed the loss and the learning rate.

The peers must be installed in the same environment: ``pip install trackio tensorboard wandb "mlflow<3.18"``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from loop import Log, nothing, open_logger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

HERE = Path(__file__).parent
SHAPES = {"MLP 64-256-256-10, batch 64, Adam": (64, 256, 10, 64), "linear 4-1, batch 8, SGD": (4, 0, 1, 8)}
PEERS = ("trackio", "tensorboard", "wandb", "mlflow")
GROUPS = ("off", "on", "off again")
STEPS = 4_000
#: One transaction a call: a tenth of the steps shows the same.
SLOW = {"mlflow": 200}


def switch(logger: str, log: Log) -> Callable[[bool], Log]:
    """Turns the logger on or off, and gives what is to be called at the end of the next step."""
    if logger != "looptap":
        return lambda is_on: log if is_on else nothing
    from looptap.session import SESSION

    def turn(is_on: bool) -> Log:
        patcher = SESSION.registry.entries["torch"].patcher
        assert patcher is not None
        for guard in patcher.guards:
            guard.closed = not is_on
        return nothing

    return turn


def measure(logger: str, inputs: int, hidden: int, outputs: int, batch_size: int) -> dict[str, list[float]]:
    """Duration of each step in µs, by group."""
    if hidden:
        model: nn.Module = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    else:
        model = nn.Linear(inputs, outputs)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    criterion = nn.MSELoss()
    data = TensorDataset(torch.randn(100 * batch_size, inputs), torch.randn(100 * batch_size, outputs))
    loader = DataLoader(data, batch_size=batch_size)
    durations: dict[str, list[float]] = {group: [] for group in GROUPS}
    wanted, number, step = SLOW.get(logger, STEPS), 0, 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.redirect_stdout(sys.stderr):
        log, close = open_logger(logger, folder)
        turn = switch(logger, log) if logger != "looptap" else None
        while len(durations[GROUPS[-1]]) < wanted:
            iterator = iter(loader)
            for _ in range(len(loader)):
                # The order of the groups turns, so that none always follows the same other. The first pass is for warming up.
                is_warm = step >= 100
                group = GROUPS[(number + number // len(GROUPS)) % len(GROUPS)] if is_warm else "on"
                if is_warm and turn is None:
                    turn = switch(logger, log)  # looptap has hooks once torch has been seen
                at_end = turn(group == "on") if turn is not None else log
                before = time.perf_counter_ns()
                features, targets = next(iterator)
                optimizer.zero_grad()
                loss = criterion(model(features), targets)
                loss.backward()
                optimizer.step()
                at_end(step, loss, 1e-3)
                after = time.perf_counter_ns()
                step += 1
                if is_warm:
                    durations[group].append((after - before) / 1e3)
                    number += 1
        if turn is not None:
            turn(True)
        close()
    return durations


def row(logger: str, loop: str) -> dict[str, Any]:
    found = measure(logger, *SHAPES[loop])
    median = {group: statistics.median(values) for group, values in found.items()}
    tail = {group: statistics.quantiles(values, n=100)[98] for group, values in found.items()}
    return {
        "logger": logger,
        "loop": loop,
        "off_median_us": median["off"],
        "added_median_us": median["on"] - median["off"],
        "ratio": median["on"] / median["off"],
        "added_p99_us": tail["on"] - tail["off"],
        "again_median_us": median["off again"] - median["off"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("LOGGER", "LOOP"), help="in this process; prints JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one:
        print(json.dumps(row(*arguments.one)))
        return
    first = next(iter(SHAPES))
    wanted = [("looptap", loop) for loop in SHAPES] + [(peer, first) for peer in PEERS if arguments.peers]
    rows = []
    print("| logger | loop | step without, median | added, median | ratio | added, p99 | off again, median |")
    print("|---|---|---|---|---|---|---|")
    for logger, loop in wanted:
        command = [sys.executable, __file__, "--one", logger, loop]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{logger} failed:\n{done.stderr[-2000:]}")
        found = json.loads(done.stdout.strip().splitlines()[-1])
        rows.append(found)
        print(
            f"| {logger} | {loop} | {found['off_median_us']:.0f} µs | {found['added_median_us']:+.1f} µs | {found['ratio']:.3f}"
            f" | {found['added_p99_us']:+.0f} µs | {found['again_median_us']:+.1f} µs |",
            flush=True,
        )
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "steps.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
