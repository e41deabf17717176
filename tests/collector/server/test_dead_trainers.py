"""Trainers that die under a collector: the kernel kills one that takes too much memory, and one rank of several is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.backends.servers import free_port
from collector.server.collectors import Collector, collecting
from looptap_collector import liveness
from looptap_collector.backend import RunRow
from looptap_collector.server import app
from looptap_collector.testing.batches import Journal, started
from programs import Programs

HUNGRY = """
import looptap
looptap.autolog()
for step in range(1_000):
    looptap.log_metric("loss", step / 7, step=step)
assert looptap.flush(30)
taken = []
while True:
    step += 1
    looptap.log_metric("loss", step / 7, step=step)
    print(step, flush=True)
    taken.append(bytearray(b"x") * 2**20)
"""
RANK = """
import os, signal
import torch
import torch.distributed as distributed
import looptap
looptap.autolog()
rank = int(os.environ["RANK"])
distributed.init_process_group("gloo")
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
looptap.log_param("lr", 0.01)
for step in range(40):
    if rank == 3 and step == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        loss = model(torch.randn(16, 8)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
    except RuntimeError:
        print("the others are gone", flush=True)
        model = model.module
        continue
    optimizer.step()
    looptap.log_metric("own", loss.item(), step=step)
    print(step, flush=True)
"""


@contextlib.contextmanager
def memory_limit(limit_bytes: int) -> Iterator[Path]:
    """A cgroup with a limit, of version 2 or 1; the file takes the ids of those who join. Skips where none can be made."""
    root = Path("/sys/fs/cgroup")
    controllers = root / "cgroup.subtree_control"
    is_second = controllers.exists() and "memory" in controllers.read_text()
    parent, limit = (root, "memory.max") if is_second else (root / "memory", "memory.limit_in_bytes")
    group = parent / f"looptap-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(limit_bytes))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"this machine lets nobody limit memory with a cgroup: {error}")
    try:
        yield group / "cgroup.procs"
    finally:
        deadline = time.monotonic() + 10
        while group.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # busy until the kernel has cleared the last process away
                group.rmdir()
            time.sleep(0.05)


@pytest.fixture
def watchful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that gives a run up after two seconds."""
    monkeypatch.setattr(liveness, "SILENT_SECONDS", 2)
    monkeypatch.setattr(app, "_LIVENESS_SECONDS", 0.1)
    with collecting(tmp_path / "collected") as running:
        yield running


def wait_for(collector: Collector, status: str) -> RunRow:
    deadline = time.monotonic() + 30
    while not (rows := collector.store.runs(status=status)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    row: RunRow = rows[0]
    return row


def test_out_of_memory(watchful: Collector, programs: Programs) -> None:
    """Fault 18: the kernel kills the trainer at its cgroup's limit. The run is lost, with a reason, once it has been silent, and
    the next command delivers every point that it had recorded and says that it was killed."""
    environment = programs.environment(LOOPTAP_STORE=watchful.address, LOOPTAP_TOKEN=watchful.tokens["ingest"])
    with memory_limit(300 * 2**20) as members:
        inside = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(members), sys.executable, str(programs.script(HUNGRY))]
        done = subprocess.run(inside, env=environment, cwd=programs.folder, stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    recorded = int(done.stdout.split()[-1]) + 1
    row = wait_for(watchful, "lost")
    assert row.error == "no sign of life for 2 seconds"
    assert row.ended_ns is not None
    sync = programs.looptap("sync", LOOPTAP_STORE=watchful.address, LOOPTAP_TOKEN=watchful.tokens["ingest"])
    assert sync.returncode == 0, sync.stderr
    killed = watchful.store.run(row.run)
    assert killed is not None
    assert (killed.status, killed.error) == ("killed", "process ended without saying so")
    steps = watchful.store.history(row.run, "loss", {}).steps.tolist()
    assert steps == list(range(len(steps)))
    assert recorded <= len(steps) <= recorded + 1
    (entry,) = watchful.store.delivery(row.run)
    assert entry.next == entry.stored


def test_a_collector_that_was_away_gives_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could tell it that he lives: a run of long ago is not lost before the collector has listened for a while."""
    monkeypatch.setattr(liveness, "SILENT_SECONDS", 1_000)
    monkeypatch.setattr(app, "_LIVENESS_SECONDS", 0.05)
    with collecting(tmp_path / "collected") as running:
        assert running.send(Journal().batch(started(time_ns=1))).status_code == 200
    with collecting(tmp_path / "collected") as running:
        time.sleep(0.5)
        assert [row.status for row in running.store.runs()] == ["running"]


def test_one_rank_of_four_is_killed(collector: Collector, programs: Programs) -> None:
    """Fault 23: four ranks over gloo, one of them killed with -9. The others finish; each process has delivered what it recorded
    into one run, which is partial, and no param was told twice."""
    script = programs.script(RANK)
    shared = {
        "LOOPTAP_STORE": collector.address,
        "LOOPTAP_TOKEN": collector.tokens["ingest"],
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "4",
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, script],
            env=programs.environment(**shared, RANK=str(rank), LOOPTAP_NAME=f"rank-{rank}"),
            cwd=programs.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(4)
    ]
    ended = [(rank.communicate(timeout=150), rank.returncode) for rank in ranks]
    assert [status for _, status in ended] == [0, 0, 0, -signal.SIGKILL], ended
    sync = programs.looptap("sync", **shared)
    assert sync.returncode == 0, sync.stderr
    (row,) = collector.store.runs()
    assert (row.name, row.status, row.error) == ("rank-0", "partial", "rank 3: process ended without saying so")
    params = collector.store.params(row.run, revisions=True)
    assert "lr" in {param.key for param in params}
    assert {param.revision for param in params} == {0}
    assert len({param.key for param in params}) == len(params)
    for rank, ((said, _), _) in enumerate(ended):
        printed = [int(line) for line in said.splitlines() if line.isdecimal()]
        assert printed[-1] == (19 if rank == 3 else 39)
        context = {"rank": str(rank)} if rank else {}
        assert collector.store.history(row.run, "own", context).steps.tolist() == printed
    entries = collector.store.delivery(row.run)
    assert sorted((entry.rank, entry.status) for entry in entries) == [
        (0, "finished"),
        (1, "finished"),
        (2, "finished"),
        (3, "killed"),
    ]
    assert all(entry.next == entry.stored for entry in entries)
