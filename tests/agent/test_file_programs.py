"""Whole programs and their files: lineage from one run to the other, large files on slow networks, and sudden ends."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import looptap
from agent.collectors import TOKEN, Collector
from faultproxy import Exchange, Fault, FaultProxy, delayed, forever, on, passing
from looptap_collector.artifacts import LocalArtifacts
from looptap_collector.backends.checking import check
from looptap_collector.embedded import open_backend
from looptap_collector.lineage import graph
from looptap_collector.query import find_run
from programs import Programs, assert_conserved

PRETRAINING = """
import looptap
looptap.autolog(name="pretraining")
import torch
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    loss = model(torch.ones(2, 4)).sum()
    loss.backward()
    optimizer.step()
torch.save(model.state_dict(), "pretrained.pt")
"""
FINE_TUNING = """
import looptap
looptap.autolog(name="fine-tuning")
import torch
model = torch.nn.Linear(4, 2)
model.load_state_dict(torch.load("pretrained.pt"))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    loss = model(torch.ones(2, 4)).sum()
    loss.backward()
    optimizer.step()
torch.save(model.state_dict(), "tuned.pt")
"""
#: Saves a file of so many MiB, then trains on for as long as it is told to.
LARGE = """
import os, sys, time
import looptap
looptap.autolog(name="large")
looptap.log_metric("loss", -1.0, step=0)
with open("large.bin", "wb") as file:
    for _ in range({mib}):
        file.write(os.urandom(2**20))
looptap.log_artifact("large.bin")
for step in range(1, 101):
    looptap.log_metric("loss", step / 7, step=step)
print("recorded", flush=True)
sys.stdin.readline()
"""


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def put_of_content(fault: Fault) -> Fault:
    return on("/v1/artifacts", fault, "PUT")


def steps_of(collector: Collector, name: str) -> list[int]:
    try:
        return collector.steps(find_run(collector.backend, name).run)
    except LookupError:
        return []


def artifacts_of(collector: Collector, name: str) -> list[Any]:
    try:
        return list(collector.backend.artifacts(find_run(collector.backend, name).run))
    except LookupError:
        return []


@pytest.mark.parametrize("over_http", [False, True])
def test_lineage_of_fine_tuning(
    programs: Programs, collector: Collector, tmp_path: Path, over_http: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the tuned model to its run, the weights that the run began with, and the run that made these; without a line of the
    user. The content comes back from the store as it was written, and what was only read is stored once."""
    more = {"LOOPTAP_STORE": collector.url, "LOOPTAP_TOKEN": TOKEN} if over_http else {}
    for name, value in more.items():
        monkeypatch.setenv(name, value)
    for program in (PRETRAINING, FINE_TUNING):
        done = programs.python(program, **more)
        assert done.returncode == 0, done.stderr
    store = more.get("LOOPTAP_STORE", programs.store)
    tuned, pretrained = looptap.get_run("fine-tuning", store=store), looptap.get_run("pretraining", store=store)
    assert [(item.name, item.role, item.kind) for item in tuned.artifacts] == [
        ("pretrained.pt", "input", "model"),
        ("tuned.pt", "output", "model"),
    ]
    assert [(item.name, item.role, item.step) for item in pretrained.artifacts] == [("pretrained.pt", "output", 2)]
    digests = {item.name: item.digest for item in tuned.artifacts}
    backend = collector.backend if over_http else open_backend(programs.store, create=False)
    found = graph(backend, digest=digests["tuned.pt"], direction="up")
    assert found.runs == {tuned.id, pretrained.id}
    assert found.digests == set(digests.values())
    content = (tmp_path / "pretrained.pt").read_bytes()
    assert digests["pretrained.pt"] == hashlib.sha256(content).hexdigest()
    assert tuned.download("pretrained.pt", tmp_path / "again.pt").read_bytes() == content
    got = programs.looptap("artifact", "get", "pretraining", "pretrained.pt", "-o", "cli.pt", **more)
    assert (got.returncode, (tmp_path / "cli.pt").read_bytes()) == (0, content), got.stderr
    if not over_http:
        assert_conserved(programs.record("fine-tuning"))


def test_content_of_inputs_stays_where_it_is(programs: Programs, tmp_path: Path) -> None:
    """Weights from elsewhere are known by their digest, are not copied into the store, and the check of the store misses
    nothing."""
    done = programs.python(PRETRAINING, LOOPTAP_ENABLED="false")
    assert done.returncode == 0, done.stderr
    done = programs.python(FINE_TUNING)
    assert done.returncode == 0, done.stderr
    run = looptap.get_run("fine-tuning")
    content = (tmp_path / "pretrained.pt").read_bytes()
    assert run.artifacts[0].digest == hashlib.sha256(content).hexdigest()
    artifacts = LocalArtifacts(programs.store / "artifacts")
    assert [item.digest for item in artifacts.digests()] == [run.artifacts[1].digest]
    backend = open_backend(programs.store, create=False)
    assert list(check(backend, artifacts, content=True)) == []
    backend.close()
    with pytest.raises(LookupError):
        run.download("pretrained.pt", tmp_path / "again.pt")
    got = programs.looptap("artifact", "get", "fine-tuning", "pretrained.pt", "-o", "cli.pt")
    assert got.returncode != 0
    assert "Traceback" not in got.stderr


def test_points_do_not_wait_behind_a_large_file(programs: Programs, collector: Collector, proxy: FaultProxy) -> None:
    """While a piece of a file hangs, everything that was recorded after the file arrives; the program ends within its bound, and
    the file follows by ``looptap sync``."""
    proxy.behave(put_of_content(lambda exchange: forever()))
    more: dict[str, Any] = {"LOOPTAP_STORE": proxy.url, "LOOPTAP_TOKEN": TOKEN}
    with programs.start(LARGE.format(mib=9).replace("sys.stdin.readline()", "time.sleep(6)"), **more) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "recorded\n"
        wait_for(lambda: steps_of(collector, "large") == list(range(101)))
        assert artifacts_of(collector, "large") == []
        began = time.monotonic()
        _, said = process.communicate(timeout=30)
        assert time.monotonic() - began < 6 + 9
    assert "1 record is safe in the journal" in said
    assert find_run(collector.backend, "large").status == "finished"
    proxy.behave(passing)
    done = programs.looptap("sync", **more)
    assert done.returncode == 0, done.stderr
    (artifact,) = artifacts_of(collector, "large")
    with collector.artifacts.open(artifact.digest) as content:
        assert content.read() == (programs.folder / "large.bin").read_bytes()


@pytest.mark.parametrize("is_deleted", [False, True])
def test_killed_while_a_large_file_is_on_its_way(
    programs: Programs, collector: Collector, proxy: FaultProxy, is_deleted: bool
) -> None:
    """After ``kill -9`` in the middle of an upload the next command goes on where it was; with the file gone by then, it says
    so."""
    more: dict[str, Any] = {"LOOPTAP_STORE": proxy.url, "LOOPTAP_TOKEN": TOKEN}
    pieces: list[Exchange] = []

    async def stuck(exchange: Exchange) -> None:
        pieces.append(exchange)
        await (passing(exchange) if len(pieces) <= 2 else forever())

    proxy.behave(put_of_content(stuck))
    process = programs.start(LARGE.format(mib=13).replace("sys.stdin.readline()", "time.sleep(600)"), **more)
    wait_for(lambda: len(pieces) > 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    proxy.behave(passing)
    path = programs.folder / "large.bin"
    content = path.read_bytes()
    if is_deleted:
        path.unlink()
    before = len(proxy.requests)
    done = programs.looptap("sync", **more)
    assert done.returncode == 0, done.stderr
    (artifact,) = artifacts_of(collector, "large")
    sent = sum(seen.length for seen in proxy.requests[before:] if seen.method == "PUT")
    if is_deleted:
        assert (artifact.digest, artifact.missing, sent) == (None, "deleted", 0)
    else:
        assert (artifact.digest, sent) == (hashlib.sha256(content).hexdigest(), 5 * 2**20)
    assert steps_of(collector, "large") == list(range(101))
    assert find_run(collector.backend, "large").status == "killed"


def test_newest_wins(programs: Programs, collector: Collector, proxy: FaultProxy) -> None:
    """Checkpoints that come faster than they are sent: the one under way is finished if it still can be, those that were replaced
    before their turn are told as superseded without a byte sent, and the last one is there."""
    proxy.behave(put_of_content(delayed(1.0)))
    more: dict[str, Any] = {"LOOPTAP_STORE": proxy.url, "LOOPTAP_TOKEN": TOKEN}
    program = """
    import os, time
    import looptap
    looptap.autolog(name="fast", send_interval=0.05, exit_timeout=30)
    for step in range(8):
        with open("new.pt", "wb") as file:
            file.write(bytes([step]) * 3_000_000)
        os.replace("new.pt", "last.pt")
        looptap.log_metric("loss", 1.0, step=step)
        looptap.log_artifact("last.pt")
        time.sleep(0.2)
    """
    done = programs.python(program, **more)
    assert done.returncode == 0, done.stderr
    artifacts = artifacts_of(collector, "fast")
    assert len(artifacts) == 8
    assert artifacts[-1].digest == hashlib.sha256((programs.folder / "last.pt").read_bytes()).hexdigest()
    kept = [item for item in artifacts if item.digest is not None]
    assert {item.missing for item in artifacts if item.digest is None} == {"superseded"}
    assert 1 < len(kept) < 8
    for item in kept:
        with collector.artifacts.open(item.digest) as content:
            assert len(set(content.read())) == 1
    assert sum(seen.length for seen in proxy.requests if seen.method == "PUT") == len(kept) * 3_000_000
    assert steps_of(collector, "fast") == list(range(8))


def test_bandwidth_budget(programs: Programs, collector: Collector, proxy: FaultProxy) -> None:
    """The upload of 3 MiB at 1 MiB a second takes two seconds at least: every piece but the last has its time."""
    more = {"LOOPTAP_STORE": proxy.url, "LOOPTAP_TOKEN": TOKEN, "LOOPTAP_UPLOAD_MIB_PER_SECOND": "1"}
    program = LARGE.format(mib=3).replace("sys.stdin.readline()", "looptap.flush(60)")
    done = programs.python(program, **more)
    assert done.returncode == 0, done.stderr
    pieces = [seen for seen in proxy.requests if seen.method == "PUT"]
    assert sum(seen.length for seen in pieces) == 3 * 2**20
    assert max(seen.length for seen in pieces) <= 2**20
    assert pieces[-1].at - pieces[0].at >= 1.9
    (artifact,) = artifacts_of(collector, "large")
    assert artifact.digest == hashlib.sha256((programs.folder / "large.bin").read_bytes()).hexdigest()


def test_killed_while_a_file_is_copied_into_a_folder(programs: Programs) -> None:
    """The embedded store: what was being copied when the process was killed is copied by the next command, and no half of it is
    in the store."""
    process = programs.start(LARGE.format(mib=200).replace("sys.stdin.readline()", "time.sleep(600)"))
    incoming = programs.store / "artifacts" / "incoming"
    wait_for(lambda: incoming.is_dir() and os.listdir(incoming))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    record = programs.record("large")
    (artifact,) = record["artifacts"]
    path = programs.folder / "large.bin"
    assert artifact["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["run"]["status"] == "killed"
    assert_conserved(record)
    assert [item.digest for item in LocalArtifacts(programs.store / "artifacts").digests()] == [artifact["digest"]]


def test_workers_of_a_loader_are_silent(programs: Programs) -> None:
    """What the workers of a DataLoader read in every epoch, and write, leaves no trace and starts nothing, forked or spawned."""
    program = """
    import looptap
    looptap.autolog(name="cached")
    import torch
    from torch.utils.data import DataLoader, Dataset
    class Cached(Dataset):
        def __len__(self): return 6
        def __getitem__(self, index):
            loaded = torch.load(f"{index}.pt")
            if torch.utils.data.get_worker_info() is not None:
                torch.save(loaded, f"{index}.copy")
            return loaded
    if __name__ == "__main__":
        for index in range(6):
            with looptap.suppress():
                torch.save(torch.ones(4), f"{index}.pt")
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for workers, start in ((2, "fork"), (2, "spawn"), (0, None)):
            for _ in range(2):
                for batch in DataLoader(Cached(), batch_size=3, num_workers=workers, multiprocessing_context=start):
                    loss = model(batch).sum()
                    loss.backward()
                    optimizer.step()
            looptap.set_tag(f"files with {workers} workers", str(looptap.status().emitted))
    """
    done = programs.python(program)
    assert done.returncode == 0, done.stderr
    assert (programs.folder / "5.copy").exists()
    run = looptap.get_run("cached")
    assert [(item.name, item.role) for item in run.artifacts] == [(f"{index}.pt", "input") for index in range(6)]
    assert len(programs.record("cached")["delivery"]["journals"]) == 2
