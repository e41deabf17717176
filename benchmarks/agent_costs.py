"""What single things cost: log_metric, import, autolog(), the end of a program, alerts.

    python benchmarks/agent_costs.py
    python benchmarks/agent_costs.py --alerts    # alerts only: half a minute

Each figure is the median over fresh processes; processes that only start Python are the off-twin of the import.

**Alerts** are looked for on the sender's thread: the processor time that a thread takes for a step of seven values, as a training
records them, with ``alerts=True`` less that with ``alerts=False``, in processes that take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent

LOG_METRIC = """
import time, looptap
looptap.autolog(quiet=True, {settings})
looptap.log_metric("warm", 1.0, 0)
looptap.flush(10)
clock = time.perf_counter_ns
times = []
for step in range(100_000):
    before = clock()
    looptap.log_metric("loss", 0.5, step)
    times.append(clock() - before)
times.sort()
print(times[50_000] / 1e3, times[99_000] / 1e3)
"""
IMPORT = """
import sys, time
before = time.perf_counter()
import looptap
took = time.perf_counter() - before
heavy = [name for name in ("torch", "tensorflow", "keras", "numpy", "pandas", "sqlalchemy", "requests") if name in sys.modules]
assert not heavy, heavy
print(took * 1e3)
"""
AUTOLOG = """
import time, looptap
before = time.perf_counter()
looptap.autolog(quiet=True)
print((time.perf_counter() - before) * 1e3)
"""
AUTOLOG_AFTER_TORCH = """
import time, torch, looptap
before = time.perf_counter()
looptap.autolog(quiet=True)
print((time.perf_counter() - before) * 1e3)
"""
END = """
import time, looptap
looptap.autolog(quiet=True)
for step in range(3000):
    looptap.log_metric("loss", 0.5, step)
    time.sleep(0.001)
before = time.perf_counter()
looptap.end_run()
print(time.perf_counter() - before)
"""
# Another process holds the database and never lets go: the end must still come.
END_LOCKED = """
import os, sqlite3, time, looptap
looptap.autolog(quiet=True)
looptap.log_metric("loss", 0.5, 0)
assert looptap.flush(10)
held = sqlite3.connect(os.path.join(os.environ["LOOPTAP_STORE"], "looptap.db"), isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
looptap.log_metric("loss", 0.25, 1)
before = time.perf_counter()
looptap.end_run()
print(time.perf_counter() - before)
"""
# Paced, so that the sender takes batches as from a training; its processor time for a step, and that of the thread that trains.
ALERTS = """
import threading, time, looptap
looptap.autolog(quiet=True, resources=False, alerts={alerts})
values = dict.fromkeys(("loss", "lr", "step_time", "time.data", "time.forward", "time.backward", "time.optimizer"), 0.5)
looptap.log_metrics(values, step=0)
assert looptap.flush(10)
(sender,) = [thread for thread in threading.enumerate() if thread.name == "looptap-sender"]
clock = time.pthread_getcpuclockid(sender.ident)
before, own = time.clock_gettime(clock), 0.0
for step in range(1, 20_001):
    began = time.thread_time()
    looptap.log_metrics(values, step=step)
    own += time.thread_time() - began
    if step % 100 == 0:
        time.sleep(0.01)
assert looptap.flush(10)
print((time.clock_gettime(clock) - before) / 20_000 * 1e6, own / 20_000 * 1e6)
"""


def measure(code: str, rounds: int = 7) -> list[list[float]]:
    rows = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            environment = {
                **os.environ,
                "LOOPTAP_STORE": os.path.join(folder, "store"),
                "XDG_STATE_HOME": folder,
                "PYTHONDONTWRITEBYTECODE": "",
            }
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(done.stderr)
        rows.append([float(word) for word in done.stdout.split()])
    return rows


def beside(code: str, rounds: int = 7) -> list[list[float]]:
    """What alerts add, by processes with and without that take turns."""
    pairs = [(measure(code.format(alerts=True), 1)[0], measure(code.format(alerts=False), 1)[0]) for _ in range(rounds)]
    return [[one - other for one, other in zip(with_it, without, strict=True)] for with_it, without in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", action="store_true", help="only what alerts cost")
    figures: dict[str, float] = {}

    def figure(name: str, rows: list[list[float]], column: int, unit: str, limit: float) -> None:
        value = statistics.median(row[column] for row in rows)
        figures[name] = value
        print(
            f"| {name} | {value:.2f} {unit} | ≤ {limit:g} {unit} | {'met' if value <= limit else 'MISSED'} |",
            flush=True,
        )

    print("| what | median | must be | |")
    print("|---|---|---|---|")
    alerts = beside(ALERTS)
    figure("alerts, a step of seven values, on the sender's thread", alerts, 0, "µs", 5)
    figure("alerts, the same, on the thread that trains", alerts, 1, "µs", 0.5)
    if parser.parse_args().alerts:
        return
    rows = measure(LOG_METRIC.format(settings=""), 5)
    figure("log_metric, median", rows, 0, "µs", 3)
    figure("log_metric, p99", rows, 1, "µs", 50)
    figure("log_metric without sink, median", measure(LOG_METRIC.format(settings='store="off"'), 5), 0, "µs", 3)
    figure("import looptap", measure(IMPORT, 11), 0, "ms", 60)
    figure("autolog() before torch is imported", measure(AUTOLOG, 11), 0, "ms", 20)
    figure("autolog() after torch was imported", measure(AUTOLOG_AFTER_TORCH, 7), 0, "ms", 20)
    figure("end of a run, store healthy", measure(END, 5), 0, "s", 0.5)
    figure("end of a run, store locked for good", measure(END_LOCKED, 3), 0, "s", 5.5)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "agent_costs.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
