"""What this process is in its job: one of several that train one model together and are one run.

Two things have to be known: the rank, and a *key* that is the same in every process of the job and in no other job, ever. The
environment that a launcher leaves often has both. Names that people choose (``--rdzv-id 100``) and numbers that come again (the
job of an MPI launcher) are no keys by themselves; a batch system's job and step are, and so is, on one host, the launcher itself:
its process id and the moment it started. Where there is no such key, the processes agree on one through the store of their
process group (:class:`Membership`), by one atomic request that nobody else has to answer.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from looptap import naming
from looptap.guard import Guard

#: Shorter names of a rendezvous are chosen by people, who choose the same again.
_RANDOM_CHARACTERS = 32
_OF_RUN = "run:"
Agree: TypeAlias = Callable[[str], str]


@dataclass(frozen=True)
class Job:
    """``key`` is None where only the process group can tell. ``attempt`` counts the launcher's restarts from 0; each is a run of
    its own. ``local_rank`` is the rank on this host, None where nobody says."""

    launcher: str
    rank: int
    world_size: int
    local_rank: int | None = None
    key: str | None = None
    attempt: int = 0

    @property
    def is_first_on_host(self) -> bool:
        """What is the same for all processes of a host (its CPU, its memory) is recorded by this one."""
        return self.rank == 0 if self.local_rank is None else self.local_rank == 0


def from_environment(environment: Mapping[str, str]) -> Job | None:
    """None where the environment says nothing of several processes. Never raises, asks no network and no other process."""
    for launched_by in (_torchrun, _open_mpi, _hydra, _slurm):
        job = launched_by(environment)
        if job is not None:
            return job if job.world_size > 1 else None
    return None


def _torchrun(environment: Mapping[str, str]) -> Job | None:
    """torchrun, and whatever else sets what ``init_method="env://"`` reads: DeepSpeed, Ray Train, Kubernetes."""
    job = _job("environment", environment, "RANK", "WORLD_SIZE", "LOCAL_RANK")
    run_id = environment.get("TORCHELASTIC_RUN_ID")
    if job is None or run_id is None:
        return job
    is_on_one_host = environment.get("LOCAL_WORLD_SIZE") == str(job.world_size)
    key: str | None
    if len(run_id) >= _RANDOM_CHARACTERS:
        key = f"torchrun/{run_id}"
    elif is_on_one_host:
        key = _launcher("torchrun")
    else:
        key = _slurm_step(environment)
    return replace(
        job, launcher="torchrun", key=key, attempt=_number(environment.get("TORCHELASTIC_RESTART_COUNT")) or 0
    )


def _open_mpi(environment: Mapping[str, str]) -> Job | None:
    prefix = "OMPI_COMM_WORLD_"
    job = _job("mpi", environment, f"{prefix}RANK", f"{prefix}SIZE", f"{prefix}LOCAL_RANK")
    namespace = environment.get("PMIX_NAMESPACE", "")
    if job is None:
        return None
    if environment.get(f"{prefix}LOCAL_SIZE") == str(job.world_size):
        return replace(job, key=_launcher(f"mpi/{namespace}"))
    # The namespace numbers the launches of a batch job, and comes again in others.
    batch = next((f"{name}/{environment[name]}" for name in _BATCH_JOBS if environment.get(name)), None)
    return replace(job, key=f"mpi/{namespace}/{batch}" if namespace and batch else None)


_BATCH_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")


def _hydra(environment: Mapping[str, str]) -> Job | None:
    """MPICH and Intel MPI; SLURM's own PMI says the same."""
    job = _job("mpi", environment, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID")
    if job is None:
        return None
    step = _slurm_step(environment)
    is_on_one_host = environment.get("MPI_LOCALNRANKS") == str(job.world_size)
    return replace(job, key=_launcher("mpi") if is_on_one_host and step is None else step)


def _slurm(environment: Mapping[str, str]) -> Job | None:
    """Several tasks of one ``srun``. The batch script, and what it starts by itself, is no task of several."""
    size = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    job = _job("slurm", environment, "SLURM_PROCID", size, "SLURM_LOCALID")
    key = _slurm_step(environment)
    if job is None or key is None:
        return None
    return replace(job, key=key, attempt=_number(environment.get("SLURM_RESTART_COUNT")) or 0)


def _slurm_step(environment: Mapping[str, str]) -> str | None:
    # The batch script itself, or a shell in it, has a step of ten digits (4294967291), which is no number here: no process there is
    # one of several.
    step = _number(environment.get("SLURM_STEP_ID"))
    job = environment.get("SLURM_JOB_ID")
    if not job or step is None:
        return None
    return f"slurm/{environment.get('SLURM_CLUSTER_NAME', '')}/{job}.{step}"


def _job(launcher: str, environment: Mapping[str, str], rank: str, size: str, local_rank: str) -> Job | None:
    this, count = _number(environment.get(rank)), _number(environment.get(size))
    if this is None or count is None or this >= count:
        return None
    return Job(launcher, this, count, _number(environment.get(local_rank)))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else None


def _launcher(name: str) -> str | None:
    """The parent of this process, so that no other one is ever meant: where, which, and when it started."""
    parent = os.getppid()
    started = _started(parent)
    return None if started is None else f"{name}/{socket.gethostname()}/{parent}.{started}"


def _started(pid: int) -> str | None:
    """When a process of this machine has started, in words that all who ask get the same; None where nobody may know."""
    try:
        # The name of the program stands in parentheses and may hold anything, blanks included (proc_pid_stat(5), field 22).
        ticks = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")[:8]
    except (OSError, IndexError):
        import psutil  # where there is no /proc

        try:
            return f"{psutil.Process(pid).create_time():.0f}"
        except psutil.Error:
            return None
    return f"{ticks}.{boot}"


@dataclass(frozen=True)
class Group:
    """A process group that this process has joined. ``agree`` proposes a text to all of its processes and returns the one that
    came first; it raises RuntimeError where its store cannot do that."""

    rank: int
    world_size: int
    agree: Agree
    #: Its connections belong to the process that made them, not to a fork of it.
    pid: int


class Membership:
    """In which job this process is, as far as that is known by now; and the ids of the job's runs.

    The runs of a process are numbered per name that the program gave them, so that the same run has the same id in every rank,
    also where a rank has others between.
    """

    def __init__(self) -> None:
        self._group: Group | None = None
        self._agreed: str | None = None
        #: What was agreed upon in a process group before this one.
        self._before: str | None = None
        self._begun: dict[str | None, int] = {}

    def join(self, rank: int, world_size: int, agree: Agree) -> None:
        """This process is one of several in a process group. Asks nobody yet."""
        if world_size > 1:
            self._group = Group(rank, world_size, agree, os.getpid())
            self._before, self._agreed = self._agreed or self._before, None

    def job(self) -> Job | None:
        """Where there is a process group it counts more than the environment, which a process may have from its launcher."""
        found = from_environment(os.environ)
        group = self._group
        if group is None:
            return found
        if found is None or found.world_size != group.world_size:
            # The launcher's job may be several groups, and its task may have started the processes of one.
            attempt = 0 if found is None else found.attempt
            found = Job("process group", group.rank, group.world_size, attempt=attempt)
        elif found.rank != group.rank:
            found = replace(found, rank=group.rank, local_rank=None)
        return replace(found, key=self._key(group, found.key))

    def offer(self, run: str) -> str | None:
        """This process has begun a run already, which the others may join: rank 0 offers it. Returns the job's key."""
        group = self._group
        if group is None:
            return None
        return self._key(group, None, f"{_OF_RUN}{run}" if group.rank == 0 else None)

    def next_run(self, job: Job, name: str | None) -> tuple[str, str]:
        """Id and name of the next run of a job with a key: the same in all of its processes."""
        number = self._begun.get(name, 0)
        self._begun[name] = number + 1
        seed = "\0".join((str(job.key), str(job.attempt), str(job.world_size), name or "", str(number)))
        digest = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()
        key = job.key or ""
        is_first = not number and name is None
        run = key.removeprefix(_OF_RUN) if key.startswith(_OF_RUN) and is_first else digest[: naming.ID_DIGITS]
        return run, name or naming.run_name(digest)

    def is_of(self, run: str, key: str) -> bool:
        """Whether this is the run that the processes of a job have agreed upon when it was offered."""
        return key == f"{_OF_RUN}{run}"

    def _key(self, group: Group, known: str | None, proposed: str | None = None) -> str | None:
        if self._agreed is None and group.pid == os.getpid():
            # RuntimeError: a store that has no such request, or whose other end is gone already.
            with Guard("jobs.agree"), suppress(RuntimeError, OSError):
                self._agreed = group.agree(proposed or self._before or known or f"group/{naming.new_id()}")
        return self._agreed or known
