"""Profiles of real programs, asked for by the command that users have."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from collector.recorded import Recording, new_store
from looptap.live import asking
from programs import Programs, assert_conserved

TORCH = """
import sys, time
import torch
{arm}
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters())
def train():
    for step in range({steps}):
        loss = model(torch.randn(32, 16)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep({pause})
        if step == 10:
            print("trains", flush=True)
train()
print(*(parameter.double().sum().item().hex() for parameter in model.parameters()))
"""
ARM = "import looptap; looptap.autolog()"
STALLED = """
import threading
import looptap
looptap.autolog()
def fetch(queue):
    queue.wait()
for step in range(3):
    looptap.log_metric("loss", 1.0, step=step)
print("trains", flush=True)
fetch(threading.Event())
"""


def trains(process: subprocess.Popen[str], programs: Programs) -> None:
    """Returns when the run can be found: it is in the store by then."""
    assert process.stdout is not None
    assert process.stdout.readline() == "trains\n"
    while programs.looptap("show", "latest").returncode != 0:
        assert process.poll() is None
        time.sleep(0.1)


def content(programs: Programs, name: str) -> str:
    done = programs.looptap("artifact", "get", "latest", name, "-o", str(programs.folder / "file"), "--force")
    assert done.returncode == 0, done.stderr
    path = programs.folder / "file"
    if name.endswith(".gz"):
        import gzip

        return gzip.decompress(path.read_bytes()).decode()
    return path.read_text()


def test_a_training_with_torch(programs: Programs) -> None:
    """Stacks, a page and a trace of torch are files of the run as soon as the command returns; the weights are bit-identical to
    those without any of it."""
    pytest.importorskip("torch")
    process = programs.start(TORCH.format(arm=ARM, steps=400, pause=0.02))
    trains(process, programs)
    asked = programs.looptap("profile", "--live", "--seconds", "2", "--json")
    assert asked.returncode == 0, asked.stderr
    told = json.loads(asked.stdout)
    assert told["files"] == [f"profile/1/{name}" for name in ("stacks.json", "summary.txt", "torch.json.gz")]
    assert told["said"] == []
    stacks = json.loads(content(programs, "profile/1/stacks.json"))["traceEvents"]
    assert any(event["name"].startswith("train (") for event in stacks)
    ops = {event.get("name") for event in json.loads(content(programs, "profile/1/torch.json.gz"))["traceEvents"]}
    assert {"aten::addmm", "Optimizer.step#Adam.step"} <= ops
    assert "train (program.py:" in content(programs, "profile/1/summary.txt")
    output, _ = process.communicate(timeout=120)
    alone = programs.python(TORCH.format(arm="", steps=400, pause=0))
    assert output == alone.stdout.removeprefix("trains\n")
    record = programs.record()
    assert_conserved(record)
    assert {item["kind"] for item in record["artifacts"]} == {"profile"}
    assert list((programs.folder / "state" / "looptap" / "journal").iterdir()) == []


def test_a_training_with_keras(programs: Programs) -> None:
    """TensorFlow's own profiler is started and stopped beside the training."""
    pytest.importorskip("tensorflow")
    code = """
    import looptap
    looptap.autolog()
    import numpy
    import keras
    class Say(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                print("trains", flush=True)
    model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = numpy.random.rand(2048, 8), numpy.random.rand(2048, 1)
    model.fit(*data, epochs=10_000, batch_size=8, verbose=0, callbacks=[Say()])
    """
    process = programs.start(code, KERAS_BACKEND="tensorflow")
    trains(process, programs)
    asked = programs.looptap("profile", "--live", "--seconds", "1")
    process.kill()
    process.communicate()
    assert asked.returncode == 0, asked.stderr
    assert ".xplane.pb" in asked.stdout
    assert "note:" not in asked.stdout


def test_a_training_that_stands_still(programs: Programs) -> None:
    """No step comes, and its stack is told all the same."""
    process = programs.start(STALLED)
    trains(process, programs)
    asked = programs.looptap("profile", "latest", "--live", "--seconds", "0.5")
    assert asked.returncode == 0, asked.stderr
    lines = asked.stdout.splitlines()
    assert [line.split()[-1] for line in lines[:2]] == ["profile/1/stacks.json", "profile/1/summary.txt"]
    assert "fetch (program.py:5)" in content(programs, "profile/1/summary.txt")
    # A second one has names of its own.
    assert "profile/2/stacks.json" in programs.looptap("profile", "--live", "--seconds", "0.5").stdout
    process.kill()
    process.communicate()


def test_a_run_that_ends_meanwhile(programs: Programs) -> None:
    """Is not held up by it; what was seen until then is kept, and told."""
    temporary = programs.folder / "tmp"
    temporary.mkdir()
    code = STALLED.replace("fetch(threading.Event())", "import time; time.sleep(15)")
    process = programs.start(code, TMPDIR=str(temporary))
    trains(process, programs)
    began = time.monotonic()
    asked = programs.looptap("profile", "--live", "--seconds", "60")
    assert time.monotonic() - began < 50
    assert process.wait(timeout=30) == 0
    process.communicate()
    assert asked.returncode == 0, asked.stderr
    assert "profile/1/stacks.json" in asked.stdout
    assert "has ended" in asked.stdout
    assert list(temporary.iterdir()) == []


def test_a_run_that_is_killed_meanwhile(programs: Programs) -> None:
    process = programs.start(STALLED)
    trains(process, programs)
    asking_ = subprocess.Popen(
        [sys.executable, "-m", "looptap.cli", "profile", "--live", "--seconds", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=programs.folder,
        env=programs.environment(),
    )
    while not list((programs.folder / "state").rglob("beside.*")):
        assert asking_.poll() is None, asking_.communicate()
        time.sleep(0.05)
    time.sleep(2)  # in the middle of it
    process.kill()
    process.communicate()
    _, said = asking_.communicate(timeout=60)
    assert asking_.returncode == 2
    assert "has ended before its profile was done" in said


def test_a_run_that_the_store_does_not_know(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found by its journal; its files follow when its records are delivered."""
    collector = "http://127.0.0.1:9"
    process = programs.start(STALLED, LOOPTAP_STORE=collector, TMPDIR=str(programs.folder))
    assert process.stdout is not None
    assert process.stdout.readline() == "trains\n"
    monkeypatch.setenv("XDG_STATE_HOME", str(programs.folder / "state"))
    run = asking.under_way("latest", collector)
    assert run is not None
    assert asking.under_way(run.run_name, collector) == asking.under_way(run.run[:8], collector) == run
    assert asking.under_way(run.run, collector) == run
    assert asking.under_way("another", collector) is None
    assert asking.under_way("latest", str(programs.store)) is None
    asked = programs.looptap("profile", "--live", "--seconds", "0.2", "--json", LOOPTAP_STORE=collector)
    assert asked.returncode == 0, asked.stderr
    files = ["profile/1/stacks.json", "profile/1/summary.txt"]
    said = ["the files are not in the store yet; they follow when it can be reached"]
    assert json.loads(asked.stdout) == {"run": run.run, "files": files, "said": said}
    process.kill()
    process.communicate()
    assert asking.under_way("latest", collector) is None
    delivered = programs.looptap("sync", "--to", str(programs.store))
    assert delivered.returncode == 0, delivered.stderr
    assert "fetch (program.py:5)" in content(programs, "profile/1/summary.txt")


def test_when_there_is_nothing_to_ask(programs: Programs) -> None:
    """In one line each: the run has ended; it is on another host; its journal is elsewhere; its process is dead."""

    def refused(run: str, **more: str) -> str:
        done = programs.looptap("profile", run, "--live", **more)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        return done.stderr

    store = new_store(programs.store)
    now = time.time_ns()
    Recording(store, "elsewhere", host="other-box", start_ns=now)
    Recording(store, "hidden", host=socket.gethostname(), start_ns=now)
    Recording(store, "done", start_ns=now).end(after_seconds=0)
    assert "run elsewhere is on host other-box: ask there" in refused("elsewhere")
    assert "no journal of run hidden is in" in refused("hidden")
    assert "run done is finished; only a run under way can be profiled" in refused("done")


def test_a_process_that_does_not_answer(programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that is stopped: told after a while, and nothing of the question is left behind."""
    import os
    import signal

    process = programs.start(STALLED)
    trains(process, programs)
    record = programs.record()
    os.kill(process.pid, signal.SIGSTOP)
    monkeypatch.setenv("XDG_STATE_HOME", str(programs.folder / "state"))
    monkeypatch.setattr(asking, "TAKEN_SECONDS", 1.0)
    waited: list[Any] = []
    with pytest.raises(asking.CannotProfile, match="does not answer within 1 s"):
        asking.profile(record["run"]["id"], "name", None, 1.0, lambda *told: waited.append(told))
    assert {what for what, _ in waited} == {"asked"}
    assert not list((programs.folder / "state").rglob("beside.request*"))
    process.kill()
    process.communicate()


def test_an_alert_takes_one(programs: Programs) -> None:
    """Where the user wants it to."""
    code = STALLED.replace('"loss", 1.0', '"loss", float("nan")').replace(
        "fetch(threading.Event())", "import time; time.sleep(8)"
    )
    done = programs.python(code, LOOPTAP_ALERT_PROFILE="0.5")
    assert done.returncode == 0, done.stderr
    record = programs.record()
    assert [item["name"] for item in record["artifacts"]] == ["profile/1/stacks.json", "profile/1/summary.txt"]
    assert [alert["kind"] for alert in record["alerts"]] == ["not_finite"]
