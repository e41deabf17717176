"""What a process is in its job, by the environments that launchers leave, and the runs that come of it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from looptap.jobs import Job, Membership, from_environment
from programs import Programs, assert_conserved

SLURM = {"SLURM_JOB_ID": "812", "SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}
TORCHRUN = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "none"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_NAMESPACE": "prterun-a-17@1",
}
UUID = "0b8f1c6e-3f0e-4c7a-9d0a-9a4c3b7a1f55"

#: Environment, rank, world size, local rank, and the key where it does not depend on the process that started this one.
JOBS: dict[str, tuple[dict[str, str], tuple[int, int, int | None] | None, str | None]] = {
    "nothing": ({}, None, None),
    "one process": ({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}, None, None),
    "rank beyond": ({"RANK": "4", "WORLD_SIZE": "4"}, None, None),
    "no number": ({"RANK": "zero", "WORLD_SIZE": "4"}, None, None),
    "negative": ({"RANK": "-1", "WORLD_SIZE": "4"}, None, None),
    "huge": ({"RANK": "1", "WORLD_SIZE": "9" * 40}, None, None),
    "env:// by hand, Ray Train, DeepSpeed": ({"RANK": "1", "WORLD_SIZE": "2"}, (1, 2, None), None),
    "torchrun, id of its own": ({**TORCHRUN, "TORCHELASTIC_RUN_ID": UUID}, (2, 4, 2), f"torchrun/{UUID}"),
    "torchrun, many hosts, id of a person": (
        {**TORCHRUN, "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "100"},
        (2, 4, 2),
        None,
    ),
    "torchrun, many hosts, in a step of SLURM": (
        {**SLURM, **TORCHRUN, "LOCAL_WORLD_SIZE": "2"},
        (2, 4, 2),
        "slurm//812.0",
    ),
    "srun": ({**SLURM, "SLURM_CLUSTER_NAME": "big"}, (5, 8, 1), "slurm/big/812.0"),
    "srun, tasks of the step": ({**SLURM, "SLURM_STEP_NUM_TASKS": "6"}, (5, 6, 1), "slurm//812.0"),
    "srun of one task": ({**SLURM, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None, None),
    "batch script": ({**SLURM, "SLURM_STEP_ID": "4294967291", "SLURM_PROCID": "0"}, None, None),
    "batch script without a step": ({k: v for k, v in SLURM.items() if k != "SLURM_STEP_ID"}, None, None),
    "srun with PMI": ({**SLURM, "PMI_RANK": "5", "PMI_SIZE": "8"}, (5, 8, None), "slurm//812.0"),
    "mpirun on many hosts": (OPEN_MPI, (3, 4, 1), None),
    "mpirun on many hosts of a batch job": (
        {**OPEN_MPI, "PBS_JOBID": "77.head"},
        (3, 4, 1),
        "mpi/prterun-a-17@1/PBS_JOBID/77.head",
    ),
    "mpiexec of MPICH on many hosts": (
        {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"},
        (1, 2, 0),
        None,
    ),
}


@pytest.mark.parametrize(("environment", "place", "key"), JOBS.values(), ids=JOBS)
def test_environments(environment: dict[str, str], place: tuple[int, int, int | None] | None, key: str | None) -> None:
    """Rank, world size and local rank as the launcher told them; a key only where no other job can ever have the same."""
    job = from_environment(environment)
    if place is None:
        assert job is None
    else:
        assert job is not None
        assert ((job.rank, job.world_size, job.local_rank), job.key) == (place, key)


LOCAL = {
    "torchrun": TORCHRUN,
    "mpirun": {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "4"},
    "mpiexec": {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"},
}


@pytest.mark.parametrize("environment", LOCAL.values(), ids=LOCAL)
def test_on_one_host_the_launcher_is_the_key(environment: dict[str, str]) -> None:
    """All children of one process have the same key, those of another one have another; when it started is part of it."""
    code = "import os\nfrom looptap.jobs import from_environment\nprint(from_environment(os.environ).key)"
    launcher = (
        "import subprocess, sys\n"
        "for _ in range(2):\n"
        f"    subprocess.run([sys.executable, '-c', {code!r}], check=True)\n"
    )
    keys = [
        subprocess.run(
            [sys.executable, "-c", launcher],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert [len(set(same)) for same in keys] == [1, 1]
    assert keys[0][0] != keys[1][0]
    assert "None" not in keys[0]


def test_attempts() -> None:
    """A restart by the launcher is counted: of torchrun, and of a SLURM job that was queued again."""
    torchrun = from_environment({**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "3"})
    slurm = from_environment({**SLURM, "SLURM_RESTART_COUNT": "2"})
    assert torchrun is not None
    assert slurm is not None
    assert (torchrun.attempt, slurm.attempt) == (3, 2)


def test_first_on_host() -> None:
    """One process of each host: local rank 0, or rank 0 where nobody says which that is."""
    assert Job("slurm", 4, 8, 0).is_first_on_host
    assert not Job("slurm", 4, 8, 1).is_first_on_host
    assert Job("environment", 0, 8).is_first_on_host
    assert not Job("environment", 1, 8).is_first_on_host


def test_runs_of_a_job_have_the_same_ids_everywhere() -> None:
    """The same run in each rank, also where a rank has others between; another one in every attempt, name and turn."""
    jobs = [Job("slurm", rank, 2, rank, "key") for rank in range(2)]
    first, second = Membership(), Membership()
    ids = [first.next_run(jobs[0], None), first.next_run(jobs[0], "only here"), first.next_run(jobs[0], None)]
    assert [second.next_run(jobs[1], None), second.next_run(jobs[1], None)] == [ids[0], ids[2]]
    others = [
        Membership().next_run(Job("slurm", 0, 2, 0, "key", 1), None),
        Membership().next_run(Job("slurm", 0, 3, 0, "key"), None),
        Membership().next_run(Job("slurm", 0, 2, 0, "other"), None),
        Membership().next_run(jobs[0], "named"),
    ]
    assert len({run for run, _ in [*ids, *others]}) == 7
    assert all(len(run) == 18 and name for run, name in [*ids, *others])


class Store:
    """The one request of a store that is used."""

    def __init__(self) -> None:
        self.told: str | None = None

    def agree(self, proposed: str) -> str:
        self.told = self.told or proposed
        return self.told


def test_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is first gives the key; the group's rank counts more than the environment's; a fork asks no more."""
    store, members = Store(), [Membership() for _ in range(3)]
    for rank, member in enumerate(members):
        member.join(rank, 3, store.agree)
    jobs = [member.job() for member in reversed(members)]
    assert [job.rank for job in jobs if job] == [2, 1, 0]
    assert {job.key for job in jobs if job} == {store.told}
    forked = Membership()
    forked.join(0, 3, store.agree)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    store.told = "asked"
    job = forked.job()
    assert job is not None
    assert job.key is None, "the connection belongs to the parent"


def test_a_store_that_cannot_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the environment has to do; nothing is raised."""

    def cannot(proposed: str) -> str:
        raise RuntimeError("not implemented")

    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    member = Membership()
    member.join(5, 8, cannot)
    job = member.job()
    assert job is not None
    assert (job.rank, job.local_rank, job.key) == (5, 1, "slurm//812.0")


def test_groups_inside_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of four in one step of eight tasks are two jobs; a group of all of them is the step's own, in its own order."""
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    keys = []
    for _ in range(2):
        store = Store()
        members = [Membership() for _ in range(4)]
        for rank, member in enumerate(members):
            member.join(rank, 4, store.agree)
        jobs = [job for member in members if (job := member.job())]
        assert [(job.rank, job.world_size) for job in jobs] == [(rank, 4) for rank in range(4)]
        keys.append({job.key for job in jobs})
    assert len(keys[0]) == len(keys[1]) == 1
    assert keys[0] != keys[1]
    whole = Membership()
    whole.join(7, 8, Store().agree)
    job = whole.job()
    assert job is not None
    assert (job.rank, job.key) == (7, "slurm//812.0")


LOG = """
import os, sys
import looptap
looptap.autolog(experiment="ranks")
rank = int(os.environ.get("SLURM_PROCID") or os.environ["OMPI_COMM_WORLD_RANK"])
looptap.log_param("lr", 0.1 + rank)
looptap.set_tag("rank", str(rank))
for step in range(5):
    looptap.log_metric("loss", rank + step / 8, step)
open("same.txt", "a").close()
looptap.log_artifact("same.txt")
if rank == int(os.environ.get("FAILS", -1)):
    raise ValueError(f"rank {rank}")
"""


def start(programs: Programs, environments: list[dict[str, str]]) -> list[str]:
    """Start these processes at once; what each has said."""
    script = str(programs.script(LOG))
    started = [
        subprocess.Popen(
            [sys.executable, script],
            env=programs.environment(**more),
            cwd=programs.folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        for more in environments
    ]
    return [process.communicate(timeout=60)[1] for process in started]


def slurm(rank: int, job: str = "812", **more: str) -> dict[str, str]:
    return {**SLURM, "SLURM_JOB_ID": job, "SLURM_NTASKS": "3", "SLURM_PROCID": str(rank), **more}


def mpi(rank: int, namespace: str = "first") -> dict[str, str]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "SIZE": 3, "LOCAL_SIZE": 3}
    return {"PMIX_NAMESPACE": namespace, **{f"OMPI_COMM_WORLD_{name}": str(value) for name, value in place.items()}}


@pytest.mark.parametrize("of_rank", [slurm, mpi], ids=["slurm", "mpi"])
def test_processes_of_one_launcher_are_one_run(programs: Programs, of_rank: Any) -> None:
    """Rank 0 tells what is told once, and talks to the user; the others add their series and are quiet. Another job is another
    run."""
    said = start(programs, [of_rank(rank) for rank in range(3)])
    assert [bool(text) for text in said] == [True, False, False], said
    start(programs, [of_rank(rank, "other") for rank in range(3)])
    later, earlier = programs.runs()
    assert later["id"] != earlier["id"]
    record = programs.record(earlier["id"])
    assert (record["run"]["status"], record["run"]["world_size"]) == ("finished", 3)
    assert record["params"]["lr"]["value"] == 0.1
    assert "revisions" not in record["params"]["lr"]
    assert record["tags"]["rank"] == "0"
    assert {label: metric["last"] for label, metric in record["metrics"].items()} == {
        "loss": 0.5,
        "loss{rank=1}": 1.5,
        "loss{rank=2}": 2.5,
    }
    assert [file["name"] for file in record["artifacts"]] == ["same.txt"]
    assert_conserved(record)


def test_only_some_ranks_record(programs: Programs) -> None:
    """Those that never come are not waited for: the run ends with the others, and has a name and a start without rank 0."""
    start(programs, [slurm(0)])
    start(programs, [slurm(2, "alone")])
    alone, first = programs.runs()
    assert [(run["status"], run["world_size"], run["rank"]) for run in (first, alone)] == [
        ("finished", 3, 0),
        ("finished", 3, 2),
    ]
    assert programs.record(alone["id"])["metrics"]["loss{rank=2}"]["count"] == 5


def test_one_rank_fails(programs: Programs) -> None:
    """The run has failed, with the error of that rank."""
    start(programs, [slurm(rank, FAILS="1") for rank in range(3)])
    (run,) = programs.runs()
    assert (run["status"], run["error"]) == ("failed", "rank 1: ValueError: rank 1")


def test_a_child_of_a_rank(programs: Programs) -> None:
    """What a rank forks records as that rank, and its death is not the rank's."""
    code = """
    import os
    import looptap
    looptap.autolog(quiet=True)
    looptap.log_metric("parent", 1.0)
    pid = os.fork()
    if pid == 0:
        looptap.log_metric("child", 2.0)
        looptap.log_param("child", 1)
        os._exit(0)
    os.waitpid(pid, 0)
    """
    done = programs.python(code, **slurm(1))
    assert done.returncode == 0, done.stderr
    record = programs.record()
    assert sorted(record["metrics"]) == ["child{rank=1}", "parent{rank=1}"]
    assert (record["run"]["status"], record["params"]) == ("finished", {})
