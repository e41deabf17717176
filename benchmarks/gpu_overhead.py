"""What looptap adds to training on a GPU: waits for the device, time of a step, memory; and whether CUDA graphs are left alone.

    python benchmarks/gpu_overhead.py                    # all of it, some five minutes
    python benchmarks/gpu_overhead.py --device cpu       # a rehearsal where there is no GPU: same code, nothing to conclude

Each measurement is a fresh process with looptap and its twin without (which does not import it), in turns; the ratio is the median
over the pairs. Steps are timed by CUDA events around windows of 20 steps, without a wait inside. The model is an MLP with Adam and
gradient clipping, as large as it takes for a step of about 1 ms and of about 10 ms on this device.

Goals: 0 additional calls that wait for the device (counted by the profiler in 100 steps), step time within 0.5 %, 1 MiB of
memory, and the same weights to the bit, also where the step is a CUDA graph. Exits with 1 when a goal is missed, with 2 where
there is no GPU.

Needs torch, msgspec, psutil and packaging, and nothing installed: it finds looptap in the folders beside it. For a machine
without a package index bring these along (3.12 is the Python over there). Without SQLAlchemy and Alembic the store is off, and
the journal is all that is written:

    pip install --target benchmarks/.deps --python-version 3.12 --only-binary=:all: msgspec psutil packaging
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import tomllib
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
WARM_UP, WINDOW, PROFILED = 60, 20, 100
#: Calls that keep the host until the device has done something.
WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "cudaMemcpy2D",
    "cudaHostAlloc",
    "cudaMalloc",
    "cudaFree",
    "aten::item",
    "aten::_local_scalar_dense",
)
SHOWN = ("cudaMemcpyAsync", "cudaEventRecord", "cudaEventRecordWithFlags", "cudaEventQuery", "cudaEventCreateWithFlags")
TARGETS_MS = (1.0, 10.0)
GOALS = {"ratio": 1.005, "memory_bytes": 2**20}


# --- looptap, from the folders beside this one ------------------------------------------------------------------------


def make_importable(folder: str) -> None:
    """Where looptap is not installed: its folders on the path, and its entry points in a folder that looks like an installation."""
    root = HERE.parent
    sys.path[:0] = [str(root / part) for part in ("agent", "integrations", "collector")]
    sys.path.append(str(HERE / ".deps"))
    missing = [name for name in ("msgspec", "psutil", "packaging") if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"looptap cannot be imported here: {', '.join(missing)} missing (see python {sys.argv[0]} --help)"
        )
    from importlib import metadata

    if metadata.entry_points(group="looptap.integrations"):
        return
    points = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]["looptap.integrations"]
    info = Path(folder) / "looptap-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: looptap\nVersion: 0\n")
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[looptap.integrations]\n{lines}\n")
    sys.path.append(folder)


class Looptap:
    """Autolog in this process, or nothing at all. ``collect`` keeps what is recorded, which costs a little time."""

    def __init__(self, is_on: bool, folder: str, collect: bool = False) -> None:
        self.is_on = is_on
        self.recorded: dict[str, dict[int, float]] = {}
        if not is_on:
            return
        make_importable(folder)
        import looptap
        from looptap.session import SESSION

        has_store = all(importlib.util.find_spec(name) for name in ("sqlalchemy", "alembic"))
        self.store = str(Path(folder) / "store") if has_store else "off"
        looptap.autolog(store=self.store, journal=str(Path(folder) / "journal"), quiet=True)
        if collect:
            write = SESSION.recorder.metrics

            def metrics(values: Any, step: int, *more: Any) -> None:
                for name, value in values.items():
                    self.recorded.setdefault(name, {})[step] = value
                write(values, step, *more)

            SESSION.recorder.metrics = metrics  # type: ignore[method-assign]

    def end(self, losses: list[torch.Tensor]) -> dict[str, Any]:
        """How many of the losses that the program kept itself were recorded alike, to the bit, at their own step."""
        if not self.is_on:
            return {}
        import looptap

        looptap.end_run()
        recorded = self.recorded.get("loss", {})
        alike = sum(recorded.get(step) == float(loss) for step, loss in enumerate(losses))
        return {
            "store": self.store != "off",
            "losses": len(losses),
            "losses_alike": alike,
            "series": sorted(self.recorded),
        }


# --- one process ------------------------------------------------------------------------------------------------------


class Training:
    """An MLP of four layers on batches that are on the device already."""

    def __init__(self, device: str, width: int, batch: int, capturable: bool = False) -> None:
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = False
        self.is_cuda = device == "cuda"
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.Linear(width, 16)).to(device)
        more = {"fused": True, "capturable": capturable} if self.is_cuda else {}
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, **more)
        self.inputs = [torch.randn(batch, width, device=device) for _ in range(4)]
        self.target = torch.randn(batch, 16, device=device)

    def step(self, index: int) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.mse_loss(self.model(self.inputs[index % 4]), self.target)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def synchronize(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()

    def now(self) -> Any:
        """A mark in time on the device, without a wait."""
        if not self.is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def milliseconds(self, before: Any, after: Any) -> float:
        return float(before.elapsed_time(after)) if self.is_cuda else (after - before) * 1e3

    def checksum(self) -> str:
        self.synchronize()
        return "".join(float(value.double().sum()).hex() for value in self.model.parameters())


def timed(device: str, width: int, batch: int, steps: int, is_on: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        looptap = Looptap(is_on, folder)
        training = Training(device, width, batch)
        losses = [training.step(index) for index in range(WARM_UP)]
        training.synchronize()
        marks = [training.now()]
        host = time.perf_counter()
        for index in range(steps):
            losses.append(training.step(WARM_UP + index))
            if index % WINDOW == WINDOW - 1:
                marks.append(training.now())
        host = time.perf_counter() - host
        training.synchronize()
        windows = [
            training.milliseconds(before, after) / WINDOW for before, after in zip(marks, marks[1:], strict=False)
        ]
        found = {"step_ms": statistics.median(windows), "host_ms": host / steps * 1e3, "checksum": training.checksum()}
        if training.is_cuda:
            found["peak_bytes"] = torch.cuda.max_memory_allocated()
            found["reserved_bytes"] = torch.cuda.max_memory_reserved()
            pinned = getattr(torch.cuda, "host_memory_stats", dict)()
            found["pinned_bytes"] = pinned.get("allocated_bytes.current", pinned.get("allocated_bytes.allocated", 0))
        return found | looptap.end(losses)


def profiled(device: str, width: int, batch: int, steps: int, is_on: bool) -> dict[str, Any]:
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        looptap = Looptap(is_on, folder, collect=True)
        training = Training(device, width, batch)
        losses = [training.step(index) for index in range(WARM_UP)]
        training.synchronize()
        with profile(activities=activities) as profiler:
            for index in range(PROFILED):
                losses.append(training.step(WARM_UP + index))
            training.synchronize()
        calls = Counter(event.name for event in profiler.events() or ())
        found: dict[str, Any] = {"calls": {name: calls.get(name, 0) for name in (*WAITS, *SHOWN)}}
        return found | looptap.end(losses)


def graphed(device: str, width: int, batch: int, steps: int, is_on: bool) -> dict[str, Any]:
    """Warm-up, capture of a whole step, replays."""
    if device != "cuda":
        return {"checksum": "", "skipped": "no graphs on the CPU"}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        looptap = Looptap(is_on, folder, collect=True)
        training = Training(device, width, batch, capturable=True)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        losses = []
        with torch.cuda.stream(side):
            for index in range(11):
                losses.append(training.step(index))
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        training.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            loss = nn.functional.mse_loss(training.model(training.inputs[0]), training.target)
            loss.backward()
            training.optimizer.step()
        before = torch.cuda.memory_allocated()
        for index in range(100):
            training.inputs[0].copy_(training.inputs[index % 4])
            graph.replay()
            losses.append(loss.detach().clone())
        found = {
            "checksum": training.checksum() + "".join(float(value).hex() for value in losses),
            "growth_bytes": torch.cuda.memory_allocated() - before,
        }
        return found | looptap.end(losses)


def calibrate(device: str, target_ms: float) -> dict[str, Any]:
    """Width and batch with which a step takes about so long, without looptap."""
    width, batch = (2048, 64) if device == "cuda" else (64, 8)
    found = 0.0
    for _ in range(12):
        training = Training(device, width, batch)
        for index in range(10):
            training.step(index)
        training.synchronize()
        before = time.perf_counter()
        for index in range(20):
            training.step(index)
        training.synchronize()
        found = (time.perf_counter() - before) / 20 * 1e3
        if found > 0.9 * target_ms:
            break
        batch = int(batch * max(1.2, min(2.0, target_ms / found)))
        if device == "cpu" and batch > 256:
            break
        del training
    return {"width": width, "batch": batch, "step_ms": found}


# --- all of them ------------------------------------------------------------------------------------------------------


def in_process(*words: Any) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} failed:\n{done.stdout[-500:]}{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def pair(what: str, device: str, shape: dict[str, Any], steps: int, turn: int) -> dict[str, dict[str, Any]]:
    """One process with and one without, the first of them by turns."""
    order = ("off", "on") if turn % 2 == 0 else ("on", "off")
    return {
        which: in_process("--device", device, "--one", what, which, shape["width"], shape["batch"], steps)
        for which in order
    }


def compare(device: str, target_ms: float, pairs: int, steps: int) -> dict[str, Any]:
    shape = in_process("--device", device, "--calibrate", target_ms)
    measured = [pair("timed", device, shape, steps, turn) for turn in range(pairs)]
    ratios = sorted(one["on"]["step_ms"] / one["off"]["step_ms"] for one in measured)
    host = sorted(one["on"]["host_ms"] - one["off"]["host_ms"] for one in measured)
    profile = pair("profiled", device, shape, steps, 0)
    added = {
        name: profile["on"]["calls"][name] - profile["off"]["calls"][name]
        for name in profile["on"]["calls"]
        if profile["on"]["calls"][name] or profile["off"]["calls"][name]
    }
    memory = {
        key: max(one["on"].get(key, 0) - one["off"].get(key, 0) for one in measured)
        for key in ("peak_bytes", "reserved_bytes", "pinned_bytes")
    }
    return {
        "target_ms": target_ms,
        **shape,
        "off_ms": statistics.median(one["off"]["step_ms"] for one in measured),
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "added_host_us": statistics.median(host) * 1e3,
        "added_calls": added,
        "added_waits": sum(max(0, count) for name, count in added.items() if name in WAITS),
        "added_memory": memory,
        "same_weights": all(one["on"]["checksum"] == one["off"]["checksum"] for one in measured),
        "recorded": {key: profile["on"].get(key) for key in ("losses", "losses_alike", "series")},
        "store": measured[0]["on"]["store"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of measured steps in each process")
    parser.add_argument("--one", nargs=5, metavar=("WHAT", "WHICH", "WIDTH", "BATCH", "STEPS"), help=argparse.SUPPRESS)
    parser.add_argument("--calibrate", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = arguments.device
    if device == "cpu":
        torch.set_num_threads(1)
    if device == "cuda" and not torch.cuda.is_available():
        print(f"no GPU here (torch {torch.__version__}): nothing was measured; --device cpu rehearses", file=sys.stderr)
        raise SystemExit(2)
    if arguments.calibrate:
        print(json.dumps(calibrate(device, arguments.calibrate)))
        return
    if arguments.one:
        what, which, *numbers = arguments.one
        measure = {"timed": timed, "profiled": profiled, "graphed": graphed}[what]
        print(json.dumps(measure(device, *map(int, numbers), which == "on")))
        return
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU (a rehearsal)"
    print(f"{name}, torch {torch.__version__}\n")
    rows = []
    print(
        "| step | off | ratio (lowest, highest) | host, added | waits, added | memory, added (device, pinned) | weights |"
    )
    print("|---|---|---|---|---|---|---|")
    for target in TARGETS_MS:
        steps = max(WINDOW, int(arguments.seconds * 1e3 / target / WINDOW) * WINDOW)
        row = compare(device, target, arguments.pairs, steps)
        rows.append(row)
        memory = row["added_memory"]
        print(
            f"| {target:.0f} ms | {row['off_ms']:.3f} ms | {row['ratio']:.4f} ({row['ratios'][0]:.4f}, {row['ratios'][-1]:.4f})"
            f" | {row['added_host_us']:+.1f} µs | {row['added_waits']} | {memory['peak_bytes'] / 1024:.0f} KiB,"
            f" {memory['pinned_bytes'] / 1024:.0f} KiB | {'the same' if row['same_weights'] else 'DIFFERENT'} |",
            flush=True,
        )
    for row in rows:
        print(
            f"\nadded calls in {PROFILED} steps of {row['target_ms']:.0f} ms: {row['added_calls']}; recorded: {row['recorded']}"
        )
    graph = pair("graphed", device, rows[0], 0, 0)
    same_graph = graph["on"]["checksum"] == graph["off"]["checksum"]
    print(
        f"\nCUDA graph, 100 replays: weights and losses {'the same' if same_graph else 'DIFFERENT'};"
        f" {graph['on'].get('losses_alike')} of {graph['on'].get('losses')} losses recorded alike"
    )
    missed = [
        f"step of {row['target_ms']:.0f} ms: {what}"
        for row in rows
        for what, is_missed in (
            (f"ratio {row['ratio']:.4f}", row["ratio"] > GOALS["ratio"]),
            (f"{row['added_waits']} waits", row["added_waits"] > 0),
            ("memory", max(row["added_memory"].values()) > GOALS["memory_bytes"]),
            ("weights", not row["same_weights"]),
        )
        if is_missed
    ]
    missed += [] if same_graph else ["graph: not the same"]
    print("\ngoals missed: " + ("; ".join(missed) or "none"))
    if device == "cpu":
        return
    (HERE / "results").mkdir(exist_ok=True)
    found = {
        "device": name,
        "torch": torch.__version__,
        "rows": rows,
        "graph": {"same": same_graph, **graph["on"]},
        "missed": missed,
    }
    found["graph"].pop("checksum", None)
    (HERE / "results" / "gpu_overhead.json").write_text(json.dumps(found, indent=1) + "\n")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
