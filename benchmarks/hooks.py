"""What each hook on the path of a step costs: the same call with looptap and without, alone in a loop, in turns.

    python benchmarks/hooks.py                       # all of them, about two minutes
    python benchmarks/hooks.py torch.backward        # those whose key begins so
    python benchmarks/hooks.py --tolerance 3         # on a busy machine

One process; blocks of calls take turns with ``autolog()`` and after ``stop()``, which puts back the identical originals. A cost
is the difference of the medians over single calls: what other programs take from us, and the pages that the journal's file grows
by, is in the tail of a block and not in its median. Exits with 1 when one is over its budget (``budget.toml``, nanoseconds) times
the tolerance, 2 by default: the budget is for a quiet machine. A key that is in the budget and measured nowhere is a failure, too.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tomllib
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

import looptap
from looptap.patching import Call, Observation, Patcher
from looptap.session import SESSION
from looptap_integrations.torch.scalars import Scalars

HERE = Path(__file__).parent
BLOCKS = 15


class Hook(NamedTuple):
    key: str
    #: Made anew for each block; returns what is called, and is given whether looptap is on.
    prepare: Callable[[bool], Callable[[], object]]
    #: In a block; fewer for what is slow by itself.
    calls: int = 2000


# --- the calls --------------------------------------------------------------------------------------------------------


class Still(torch.optim.Optimizer):
    """Its step does nothing, so that the hooks around it are all there is."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})

    def step(self, closure: Any = None) -> None:
        pass


class Program:
    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.ones(()))
        self.optimizer = Still([self.weight])
        self.loss = self.weight * 1.0
        for _ in range(3):  # looptap gets to know them
            self.backward()
            self.optimizer.step()

    def backward(self) -> None:
        self.loss.backward(retain_graph=True)


def backward(is_on: bool) -> Callable[[], object]:
    return Program().backward


def step(is_on: bool) -> Callable[[], object]:
    program = Program()
    program.backward()
    return program.optimizer.step


def step_with_lr(is_on: bool) -> Callable[[], object]:
    optimizer = Program().optimizer
    group = optimizer.param_groups[0]

    def call() -> None:
        group["lr"] *= 0.999
        optimizer.step()

    return call


class Endless(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 10_000_000

    def __getitem__(self, index: int) -> int:
        return index


def next_batch(is_on: bool) -> Callable[[], object]:
    program = Program()
    iterator = iter(DataLoader(Endless(), batch_size=None, sampler=range(10_000_000)))
    next(iterator)
    program.optimizer.step()
    return lambda: next(iterator)


def clip(is_on: bool) -> Callable[[], object]:
    """Without the step that takes the norm, since that is cold after so long a call."""
    weight = Program().weight
    weight.grad = torch.ones(())
    norms: list[Any] = SESSION.registry.entries["torch"].integration.loop.norms if is_on else []  # type: ignore[union-attr]

    def call() -> None:
        torch.nn.utils.clip_grad_norm_(weight, 1.0)
        norms.clear()

    return call


def scheduler(is_on: bool) -> Callable[[], object]:
    optimizer = Program().optimizer
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
    optimizer.step()
    return schedule.step


def loss_function(is_on: bool) -> Callable[[], object]:
    Program()
    one = torch.ones(2, requires_grad=True)
    return lambda: functional.mse_loss(one, one)


def loss_module(is_on: bool) -> Callable[[], object]:
    Program()
    one = torch.ones(2, requires_grad=True)
    criterion = nn.MSELoss()
    return lambda: criterion(one, one)


def autocast(is_on: bool) -> Callable[[], object]:
    Program()

    def call() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            pass

    return call


def save(is_on: bool) -> Callable[[], object]:
    Program()
    return lambda: torch.save(1, io.BytesIO())


def scale(is_on: bool) -> Callable[[], object]:
    Program()
    scaler = torch.amp.GradScaler("cpu")
    loss = torch.ones(())
    return lambda: scaler.scale(loss)


class NoDevice:
    """Does nothing, at once: what is left is our own part."""

    class Event:
        def query(self) -> bool:
            return True

    def is_supported(self, tensor: torch.Tensor) -> bool:
        return True

    def memory(self, size_bytes: int) -> torch.Tensor:
        return torch.zeros(size_bytes, dtype=torch.uint8)

    def stream(self, tensor: torch.Tensor) -> int:
        return 0

    def event(self, stream: object, timing: bool = False) -> Any:
        return NoDevice.Event()

    def record(self, event: object, stream: object) -> None:
        pass

    def is_capturing(self) -> bool:
        return False


def device_value(is_on: bool) -> Callable[[], object]:
    if not is_on:
        return nothing
    scalars, tensor = Scalars(NoDevice()), torch.ones(())

    def call() -> None:
        value = scalars._queue(tensor)
        assert value is not None
        scalars.later({"loss": value}, nothing)
        scalars.drain()

    return call


def nothing(*args: Any) -> None:
    pass


class Owner:
    @staticmethod
    def watched() -> None:
        pass


def patched(
    install: Callable[[Patcher, type], None], is_closed: bool = False
) -> Callable[[bool], Callable[[], object]]:
    def prepare(is_on: bool) -> Callable[[], object]:
        owner = type("Owner", (), {"watched": staticmethod(nothing)})
        if is_on:
            patcher = Patcher("benchmark")
            install(patcher, owner)
            for guard in patcher.guards:
                guard.closed = is_closed
        return owner.watched  # type: ignore[attr-defined,no-any-return]

    return prepare


def observer(call: Call) -> Observation:
    yield


def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    return 1


def metrics(is_on: bool) -> Callable[[], object]:
    if not is_on:
        return nothing
    Program()
    record, values = SESSION.recorder, {"loss": 1.0, "step_time": 0.1}
    return lambda: record.metrics(values, 1)


def log_metric(is_on: bool) -> Callable[[], object]:
    if not is_on:
        return nothing
    Program()
    return lambda: looptap.log_metric("accuracy", 0.5)


HOOKS = (
    Hook("torch.backward", backward),
    Hook("torch.step", step),
    Hook("torch.step_with_lr", step_with_lr),
    Hook("torch.next", next_batch),
    Hook("torch.clip", clip),
    Hook("torch.scheduler", scheduler),
    Hook("torch.loss_function", loss_function),
    Hook("torch.loss_module", loss_module),
    Hook("torch.autocast", autocast),
    Hook("torch.save", save, calls=200),
    Hook("torch.scale", scale),
    Hook("torch.device_value", device_value),
    Hook("patching.tap", patched(lambda patcher, owner: patcher.tap(owner, "watched", before, nothing))),
    Hook("patching.observe", patched(lambda patcher, owner: patcher.observe(owner, "watched", observer))),
    Hook("patching.closed", patched(lambda patcher, owner: patcher.tap(owner, "watched", before, nothing), True)),
    Hook("record.metrics", metrics),
    Hook("log_metric", log_metric),
)


# --- measuring --------------------------------------------------------------------------------------------------------


def block(hook: Hook, is_on: bool, folder: str) -> float:
    """Nanoseconds of a call, the median."""
    if is_on:
        # Alerts and samples follow a training, and not a call that is made fifty thousand times a second.
        looptap.autolog(store="off", journal=folder, quiet=True, alerts=False, resources=False)
    try:
        call = hook.prepare(is_on)
        for _ in range(hook.calls // 10):
            call()
        durations, now = [], time.perf_counter_ns
        for _ in range(hook.calls):
            began = now()
            call()
            durations.append(now() - began)
        return statistics.median(durations)
    finally:
        if is_on:
            looptap.stop()


def measure(hook: Hook, folder: str) -> dict[str, Any]:
    found: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(BLOCKS):
        for is_on in (turn % 2 == 0, turn % 2 == 1):
            found[is_on].append(block(hook, is_on, folder))
    off, on = statistics.median(found[False]), statistics.median(found[True])
    # How far two groups of equal blocks lie apart.
    spread = abs(statistics.median(found[False][::2]) - statistics.median(found[False][1::2]))
    return {
        "key": hook.key,
        "without_ns": off,
        "cost_ns": on - off,
        "spread_ns": spread,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keys", nargs="*", help="only those that begin so")
    parser.add_argument("--tolerance", type=float, default=2.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    budget: dict[str, float] = tomllib.loads((HERE / "budget.toml").read_text())["nanoseconds"]
    keys = tuple(arguments.keys)
    chosen = [hook for hook in HOOKS if not keys or hook.key.startswith(keys)]
    rows: list[dict[str, Any]] = []
    over: list[str] = []
    print("| hook | the call by itself | added | budget | two equal groups |  |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for hook in chosen:
            row = measure(hook, folder)
            row["budget_ns"] = limit = budget.get(hook.key, 0.0)
            is_over = row["cost_ns"] > limit * arguments.tolerance
            rows.append(row)
            if is_over:
                over.append(hook.key)
            print(
                f"| {hook.key} | {row['without_ns']:,.0f} ns | {row['cost_ns']:+,.0f} ns | {limit:,.0f} ns"
                f" | {row['spread_ns']:,.0f} ns | {'OVER' if is_over else ''} |",
                flush=True,
            )
    forgotten = [] if keys else sorted(budget.keys() - {hook.key for hook in HOOKS})
    if not keys:
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / "hooks.json").write_text(json.dumps(rows, indent=1) + "\n")
    for what, names in (("over the budget", over), ("in the budget, but not measured", forgotten)):
        if names:
            print(f"{what}: {', '.join(names)}")
    raise SystemExit(1 if over or forgotten else 0)


if __name__ == "__main__":
    main()
