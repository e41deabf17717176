"""What logging costs a plain training loop: each logger against its off-twin, alternated in fresh processes.

    python benchmarks/overhead.py                       # looptap alone
    python benchmarks/overhead.py --peers               # beside trackio, TensorBoard, W&B offline and MLflow

The peers must be installed in the same environment: ``pip install trackio tensorboard wandb "mlflow<3.18"``.
Added time of a pair is the difference of the two processes' medians (and p99s); the table gives the median over the pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = ("trackio", "tensorboard", "wandb", "mlflow")


def run(logger: str, steps: int) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOOPTAP_QUIET": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "loop.py"), logger, str(steps)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{logger} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    durations = sorted(result.pop("durations_ns"))
    result["median_us"] = statistics.median(durations) / 1e3
    result["p99_us"] = durations[int(len(durations) * 0.99)] / 1e3
    result["mean_us"] = statistics.fmean(durations) / 1e3
    return result


def compare(logger: str, pairs: int, steps: int) -> dict[str, Any]:
    """Pairs in the order off-on, on-off, off-on, …, so that a drift of the machine hits both alike."""
    rows = []
    for number in range(pairs):
        if number % 2 == 0:
            off, on = run("off", steps), run(logger, steps)
        else:
            on, off = run(logger, steps), run("off", steps)
        rows.append((off, on))
        print(".", end="", flush=True, file=sys.stderr)
    assert len({off["checksum"] for off, _ in rows} | {on["checksum"] for _, on in rows}) == 1, "weights differ"

    def added(key: str) -> float:
        return statistics.median(on[key] - off[key] for off, on in rows)

    return {
        "logger": logger,
        "pairs": pairs,
        "steps": steps,
        "off_median_us": statistics.median(off["median_us"] for off, _ in rows),
        "off_p99_us": statistics.median(off["p99_us"] for off, _ in rows),
        "added_median_us": added("median_us"),
        "added_p99_us": added("p99_us"),
        "added_mean_us": added("mean_us"),
        "ratio": statistics.median(on["median_us"] / off["median_us"] for off, on in rows),
        "added_rss_mib": added("rss_bytes") / 2**20,
        "close_seconds": statistics.median(on["close_seconds"] for _, on in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--loggers", nargs="*", default=["off", "looptap", "looptap-nosink"])
    arguments = parser.parse_args()
    loggers = [*arguments.loggers, *(PEERS if arguments.peers else ())]
    rows = []
    print("| logger | added per step, median | p99 | mean | ratio of medians | memory | close |")
    print("|---|---|---|---|---|---|---|")
    for logger in loggers:
        # MLflow writes one transaction per call: a tenth of the steps shows the same.
        slow = logger == "mlflow"
        row = compare(logger, 3 if slow else arguments.pairs, arguments.steps // (10 if slow else 1))
        rows.append(row)
        print(
            f"| {logger} | {row['added_median_us']:+.1f} µs | {row['added_p99_us']:+.1f} µs | {row['added_mean_us']:+.1f} µs"
            f" | {row['ratio']:.4f} | {row['added_rss_mib']:+.1f} MiB | {row['close_seconds']:.2f} s |",
            flush=True,
        )
    result = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "rows": rows,
    }
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "overhead.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
