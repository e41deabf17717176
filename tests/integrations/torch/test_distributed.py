"""Real jobs of several gloo processes: one run, every rank exact, nothing told twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import looptap
from agent import collectors
from integrations.torch.ranks import assert_every_rank_is_exact, assert_told_once, free_port, torchrun
from programs import Programs, assert_conserved

# Each rank trains on data of its own and writes down what it saw: that is the truth.
TRAIN = """
import json, os, signal, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
import looptap

STEPS = 12


def train(rank, world_size, init="env://"):
    looptap.autolog()
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=world_size)
    torch.manual_seed(0)
    inner = nn.Linear(4, 1)
    model = DDP(inner)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.manual_seed(100 + rank)
    dies_at = int(os.environ.get("DIES_AT", -1)) if rank == 2 else -1
    truth = []
    for step in range(STEPS):
        x = torch.randn(8, 4)
        if step == dies_at:
            looptap.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        try:
            loss.backward()
        except RuntimeError:
            # A peer is gone: each goes on alone.
            model = inner
            loss = model(x).pow(2).mean()
            loss.backward()
        optimizer.step()
        truth.append(loss.item())
        with open(f"truth{rank}.json", "w") as file:
            json.dump(truth, file)
    if dies_at < 0 and "DIES_AT" not in os.environ:
        for turn in range(world_size):
            if turn == rank:
                torch.save(inner.state_dict(), "model.pt")
            dist.barrier()
        torch.save({"rank": rank}, f"shard{rank}.pt")
        dist.destroy_process_group()
"""
FROM_ENVIRONMENT = """
train(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
"""


def test_torchrun(programs: Programs) -> None:
    """Four ranks are one run: every loss of each, settings once, one file per path and content, one pair of lines for the user."""
    done = torchrun(programs, TRAIN + FROM_ENVIRONMENT, "--nproc-per-node", "4")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if line.startswith("looptap:")]
    assert len(said) == 2, done.stderr
    (listed,) = programs.runs()
    record = programs.record()
    assert (record["run"]["status"], record["run"]["world_size"], record["run"]["rank"]) == ("finished", 4, 0)
    assert listed["loss"]["last"] == json.loads((programs.folder / "truth0.json").read_text())[-1]
    assert record["params"]["world_size"]["value"] == 4
    assert record["params"]["model.class"]["value"] == "torch.nn.modules.linear.Linear"
    assert record["params"]["model.parameters"]["value"] == 5
    assert_told_once(record)
    assert record["delivery"]["dropped"] == {}
    assert_conserved(record)
    # Files travel in journals of their own, which tell no end.
    ended = [entry for entry in record["delivery"]["journals"] if entry["status"]]
    entries = sorted((entry["rank"], entry["status"]) for entry in ended)
    assert entries == [(rank, "finished") for rank in range(4)]
    run = looptap.get_run(store=programs.store)
    assert_every_rank_is_exact(programs.folder, run, 4)
    assert sorted(file.name for file in run.artifacts if file.digest) == [
        "model.pt",
        *(f"shard{rank}.pt" for rank in range(4)),
    ]
    assert [file.missing for file in run.artifacts if not file.digest] == []
    assert {dict(item.context).get("rank", "0") for item in run.metrics.values() if item.key == "step_time"} == set(
        "0123"
    )
    slowest = run.history("slowest_rank")
    assert set(slowest["value"]) <= {0.0, 1.0, 2.0, 3.0}
    assert slowest["step"].tolist() == run.history("time.forward")["step"].tolist()


def test_a_program_that_knows_nothing_of_looptap(programs: Programs) -> None:
    """``looptap run`` in front of torchrun, with settings of its own: what torchrun starts is recorded, as one run."""
    code = (TRAIN + FROM_ENVIRONMENT).replace("import looptap", "").replace("    looptap.autolog()", "")
    port = ["--master-port", str(free_port())]
    script = programs.script(code)
    words = ["run", "--experiment", "ours", "-m", "torch.distributed.run", "--nproc-per-node", "2", *port, str(script)]
    done = programs.looptap(*words, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    (listed,) = programs.runs()
    assert (listed["status"], listed["world_size"], listed["experiment"]) == ("finished", 2, "ours")
    record = programs.record()
    assert record["run"]["script"] == str(script)
    assert_told_once(record)
    assert_every_rank_is_exact(programs.folder, looptap.get_run(store=programs.store), 2)


def test_one_of_four_is_killed(programs: Programs) -> None:
    """Case 23: one rank is killed by SIGKILL, the others finish. The run is partial; what every rank saw is there, the settings
    once."""
    script = str(programs.script(TRAIN + FROM_ENVIRONMENT))
    port = str(free_port())
    ranks = []
    for rank in range(4):
        environment = programs.environment(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE="4",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
            DIES_AT="7",
            OMP_NUM_THREADS="1",
        )
        ranks.append(
            subprocess.Popen(
                [sys.executable, script], env=environment, cwd=programs.folder, stderr=subprocess.PIPE, text=True
            )
        )
    told = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0, -signal.SIGKILL, 0], told
    (listed,) = programs.runs()
    assert listed["status"] == "partial"
    record = programs.record()
    assert record["run"]["error"] == "rank 2: process ended without saying so"
    assert sorted((entry["rank"], entry["status"]) for entry in record["delivery"]["journals"]) == [
        (0, "finished"),
        (1, "finished"),
        (2, "killed"),
        (3, "finished"),
    ]
    assert_told_once(record)
    assert_conserved(record)
    assert record["delivery"]["dropped"] == {}
    assert record["tags"]["job"].startswith("group/")
    run = looptap.get_run(store=programs.store)
    assert [len(run.history("loss", {"rank": "2"})), len(run.history("loss"))] == [7, 12]
    assert_every_rank_is_exact(programs.folder, run, 4)
    shown = programs.looptap("show", "latest")
    assert "4 processes: ranks 0–1, 3 finished; rank 2 killed" in shown.stdout, shown.stdout


def test_two_jobs_by_spawn(programs: Programs) -> None:
    """``mp.spawn`` leaves nothing in the environment: the ranks agree through the store of their group. Two jobs one after the
    other on the same port are two runs."""
    done = programs.python(
        TRAIN
        + f"""
if __name__ == "__main__":
    import torch.multiprocessing as mp
    for job in range(2):
        mp.spawn(train, args=(2, "tcp://127.0.0.1:{free_port()}"), nprocs=2)
        for rank in range(2):
            os.rename(f"truth{{rank}}.json", f"job{{job}}-truth{{rank}}.json")
        os.remove("model.pt")
""",
        OMP_NUM_THREADS="1",
    )
    assert done.returncode == 0, done.stderr
    later, earlier = programs.runs()
    assert later["id"] != earlier["id"]
    for job, listed in enumerate((earlier, later)):
        assert (listed["status"], listed["world_size"]) == ("finished", 2)
        record = programs.record(listed["id"])
        assert_told_once(record)
        assert_conserved(record)
        for rank in range(2):
            os.rename(programs.folder / f"job{job}-truth{rank}.json", programs.folder / f"truth{rank}.json")
        assert_every_rank_is_exact(programs.folder, looptap.get_run(listed["id"], store=programs.store), 2)


def test_attempts_of_an_elastic_job(programs: Programs) -> None:
    """A job that torchrun starts again is another run with the same tag; neither has the steps of the other."""
    code = (
        TRAIN
        + """
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
STEPS = 3 + attempt
# Not through torchrun's own store: there the second attempt finds addresses of the first one, and is refused, once in three times.
train(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), f"file://{os.getcwd()}/meeting-{attempt}")
if attempt == 0:
    raise ValueError("first attempt")
"""
    )
    done = torchrun(programs, code, "--nproc-per-node", "2", "--max-restarts", "1")
    assert done.returncode == 0, done.stderr
    second, first = programs.runs()
    records = [programs.record(run["id"]) for run in (first, second)]
    assert records[0]["tags"]["job"] == records[1]["tags"]["job"]
    assert [record["tags"].get("job.attempt") for record in records] == [None, "1"]
    assert records[1]["run"]["status"] == "finished"
    # Whoever fails first makes torchrun end the other, which may not have come to its own mistake.
    assert records[0]["run"]["status"] in ("failed", "killed")
    assert [record["metrics"]["loss"]["count"] for record in records] == [3, 4]
    for record in records:
        assert_told_once(record)


def test_a_job_and_a_collector(tmp_path: Path, programs: Programs) -> None:
    """The same over HTTP: the ranks send independently, and the collector's run is one."""
    with collectors.serving(tmp_path / "collector") as collector:
        done = torchrun(
            programs,
            TRAIN + FROM_ENVIRONMENT,
            "--nproc-per-node",
            "4",
            LOOPTAP_STORE=collector.url,
            LOOPTAP_TOKEN=collectors.TOKEN,
        )
        assert done.returncode == 0, done.stderr
        (row,) = collector.backend.runs()
        assert (row.status, row.identity.world_size) == ("finished", 4)
        params = collector.backend.params(row.run, revisions=True)
        assert {param.revision for param in params} == {0}
        assert sorted(file.name for file in collector.backend.artifacts(row.run)) == [
            "model.pt",
            *(f"shard{rank}.pt" for rank in range(4)),
        ]
        assert sum(entry.stored for entry in collector.backend.delivery(row.run)) == sum(
            entry.next for entry in collector.backend.delivery(row.run)
        )
        for rank in range(4):
            truth = json.loads((programs.folder / f"truth{rank}.json").read_text())
            history = collector.backend.history(row.run, "loss", {"rank": str(rank)} if rank else {})
            assert history.values.tolist() == truth


@pytest.mark.parametrize("begins", ["rank 0", "everywhere"])
def test_a_run_that_has_begun_before_the_group(programs: Programs, begins: str) -> None:
    """Where rank 0 alone has begun its run, the others join it. Where each has begun one, they stay apart, and a note and the
    tag of the job say so."""
    condition = "rank == 0" if begins == "rank 0" else "True"
    done = programs.python(
        TRAIN
        + f"""
def begin_and_train(rank, world_size, init):
    looptap.autolog()
    if {condition}:
        looptap.log_param("early", rank)
    train(rank, world_size, init)

if __name__ == "__main__":
    import torch.multiprocessing as mp
    mp.spawn(begin_and_train, args=(2, "tcp://127.0.0.1:{free_port()}"), nprocs=2)
""",
        OMP_NUM_THREADS="1",
    )
    assert done.returncode == 0, done.stderr
    runs = programs.runs()
    records = [programs.record(run["id"]) for run in runs]
    if begins == "rank 0":
        (record,) = records
        assert record["params"]["early"]["value"] == 0
        assert record["params"]["world_size"]["value"] == 2
        assert_every_rank_is_exact(programs.folder, looptap.get_run(store=programs.store), 2)
        assert record["run"]["status"] == "finished"
        return
    apart = [record for record in records if record["notes"]]
    assert len(records) == 2
    assert apart, "at least one of them could not be the run of the job"
    assert len({record["tags"]["job"] for record in records}) == 1
    for record in apart:
        assert "began before its process joined 1 others" in record["notes"][0]["message"]
        assert record["tags"]["job.rank"] == str(record["params"]["early"]["value"])
    assert all("loss" in record["metrics"] and "loss{rank=1}" not in record["metrics"] for record in records)
