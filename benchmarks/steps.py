"""What looptap adds to one step of a plain loop, told apart from the noise of the machine.

    python benchmarks/steps.py

Processes that are compared as wholes differ by more than a logger costs when the machine is shared. Here one process switches
looptap's hooks on and off from step to step, so that both kinds of step meet the same machine; ``off again`` is a second group of
steps without looptap, and shows how far two equal groups lie apart. A hook that is switched off still costs its wrapper, about
1 µs a step in all.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import looptap
from looptap.session import SESSION

HERE = Path(__file__).parent
PASSES = 60
SHAPES = {"MLP 64-256-256-10, batch 64, Adam": (64, 256, 10, 64), "linear 4-1, batch 8, SGD": (4, 0, 1, 8)}


def measure(inputs: int, hidden: int, outputs: int, batch_size: int) -> dict[str, list[float]]:
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
    groups = ("off", "on", "off again")
    durations: dict[str, list[float]] = {group: [] for group in groups}
    number = 0
    with looptap.run("steps"):
        for count in range(PASSES + 1):
            for features, targets in loader:
                # The order of the groups turns, so that none always follows the same other.
                group = groups[(number + number // len(groups)) % len(groups)] if count else "on"
                patcher = SESSION.registry.entries["torch"].patcher
                assert patcher is not None
                for guard in patcher.guards:
                    guard.closed = group != "on"
                before = time.perf_counter_ns()
                optimizer.zero_grad()
                loss = criterion(model(features), targets)
                loss.backward()
                optimizer.step()
                after = time.perf_counter_ns()
                if count:  # the first pass is for warming up
                    durations[group].append((after - before) / 1e3)
                    number += 1
    return durations


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    print("| loop | step without, median | added, median | added, p99 | off again, median |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        looptap.autolog(store=f"{folder}/store", journal=f"{folder}/journal", quiet=True)
        for name, shape in SHAPES.items():
            found = measure(*shape)
            median = {group: statistics.median(values) for group, values in found.items()}
            tail = {group: statistics.quantiles(values, n=100)[98] for group, values in found.items()}
            row = {
                "loop": name,
                "off_median_us": median["off"],
                "added_median_us": median["on"] - median["off"],
                "added_p99_us": tail["on"] - tail["off"],
                "again_median_us": median["off again"] - median["off"],
            }
            rows.append(row)
            print(
                f"| {name} | {row['off_median_us']:.0f} µs | {row['added_median_us']:+.1f} µs"
                f" | {row['added_p99_us']:+.0f} µs | {row['again_median_us']:+.1f} µs |"
            )
        looptap.stop()
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "steps.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
