"""What a call costs between two training steps, where a hook stands, and what it costs in a loop of its own.

    python benchmarks/cold_calls.py

A training step of a millisecond empties the caches. The first call after it pays for every page and cache line that nobody else
has touched since the step before: for most calls of a library that is ten times the work. Each call is made once after an optimizer
step, and timed alone; calls take turns from step to step. ``nothing`` is a function that does nothing; its time is taken off.
"""

from __future__ import annotations

import json
import mmap
import statistics
import struct
import tempfile
import threading
import time
import timeit
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from looptap.events import Cells, Context, Points
from looptap.journal.folder import JournalMeta
from looptap.journal.frames import encode, pack
from looptap.journal.writer import JournalWriter

HERE = Path(__file__).parent
TURNS = 700
CONTEXT: Context = {}
VALUES = {"loss": 0.5, "step_time": 0.001}


def calls(folder: str) -> dict[str, Callable[[], object]]:
    writer = JournalWriter.create(Path(folder), JournalMeta.of_this_process("run", "calm-otter-12", "off"))
    frames = JournalWriter.create(Path(folder), JournalMeta.of_this_process("run", "calm-otter-13", "off"))
    for journal in (writer, frames):
        journal.append(encode(Cells(0, ())))
    lock, packer = threading.RLock(), struct.Struct("<2sIIQIqqdd").pack
    msgpack = msgspec.msgpack.Encoder().encode
    fifty, point = b"x" * 50, Points(1, 2, VALUES)
    mapped = mmap.mmap(-1, 4096)
    words = memoryview(mapped).cast("q")
    loss = torch.tensor(0.5)

    def locked() -> None:
        with lock:
            pass

    def store_words() -> None:
        words[0] = 1
        words[1] = 2
        words[2] = 3
        words[3] = 4

    def put_mapped() -> None:
        mapped[100:150] = fifty

    def in_cells() -> None:
        if writer.put(VALUES, 1, 2, CONTEXT) < 2:
            writer.append_points(VALUES, 1, 2, CONTEXT)

    return {
        "nothing": lambda: None,
        "time.perf_counter()": time.perf_counter,
        "tensor.item()": loss.item,
        "threading.RLock": locked,
        "struct, 50 bytes": lambda: packer(b"ab", 50, 0, 1, 2, 3, 4, 0.1, 0.2),
        "zlib.crc32, 50 bytes": lambda: zlib.crc32(fifty),
        "msgspec, two values": lambda: msgpack(point),
        "mmap, 50 bytes": put_mapped,
        "memoryview, 4 words": store_words,
        "hash of 5 integers": lambda: hash((123456789, 1, 5, 123456789012345678, 4607182418800017408)),
        "two points as a frame": lambda: frames.append(encode(Points(1, 2, VALUES)), 2),
        "a frame, without writing": lambda: pack(1, 2, encode(Points(1, 2, VALUES)), 7),
        "two points in cells": in_cells,
    }


def main() -> None:
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer, criterion = torch.optim.Adam(model.parameters(), lr=1e-3), nn.MSELoss()
    loader = DataLoader(TensorDataset(torch.randn(6400, 64), torch.randn(6400, 10)), batch_size=64)
    clock = time.perf_counter_ns
    with tempfile.TemporaryDirectory() as folder:
        parts = list(calls(folder).items())
        times: dict[str, list[int]] = {name: [] for name, _ in parts}
        step = 0
        while step < TURNS * len(parts):
            for inputs, targets in loader:
                optimizer.zero_grad()
                criterion(model(inputs), targets).backward()
                optimizer.step()
                name, call = parts[step % len(parts)]
                clock()
                before = clock()
                call()
                times[name].append(clock() - before)
                step += 1
        cold = {name: statistics.median(values) / 1e3 for name, values in times.items()}
        hot = {name: min(timeit.repeat(call, number=200, repeat=20)) / 200 * 1e6 for name, call in parts}
    print("| call | after a training step | in a loop |")
    print("|---|---|---|")
    for name in list(cold)[1:]:
        print(f"| {name} | {cold[name] - cold['nothing']:.1f} µs | {hot[name] - hot['nothing']:.2f} µs |")
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "cold_calls.json").write_text(json.dumps({"cold_us": cold, "hot_us": hot}, indent=1) + "\n")


if __name__ == "__main__":
    main()
