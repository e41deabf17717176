"""What a collector's answers look like (:mod:`looptap_collector.record`), and how they become rows of a backend again.

Answers hold more than is named here; what is not needed is passed over.
"""

from __future__ import annotations

from typing import Any

import msgspec

from looptap.events import Alert, Artifact, Context, Dataset, Environment, Note, RunStarted
from looptap_collector.backend import AlertCount, Delivery, ParamRow, RunRow, SeriesRow
from looptap_collector.serving.of_run import ServedModel


class RunFields(msgspec.Struct):
    id: str
    name: str
    experiment: str
    kind: str
    status: str
    started_ns: int
    ended_ns: int | None
    heartbeat_ns: int | None
    error: str | None
    script: str | None
    command: tuple[str, ...]
    working_directory: str | None
    host: str | None
    user: str | None
    pid: int | None
    python: str | None
    rank: int = 0
    world_size: int = 1


class Git(msgspec.Struct):
    commit: str | None
    branch: str | None
    dirty: bool | None
    remote: str | None


class EnvironmentFields(msgspec.Struct):
    time_ns: int | None
    platform: str | None
    git: Git
    packages: dict[str, str]
    variables: dict[str, str]


class SeriesFields(msgspec.Struct):
    key: str
    context: Context
    count: int
    nan_count: int
    last: float
    min: float | None
    max: float | None
    first_step: int
    last_step: int
    last_time_ns: int


class Revision(msgspec.Struct):
    value: Any
    source: str
    time_ns: int
    revisions: list[Revision] = []


class JournalFields(msgspec.Struct):
    journal: str
    next: int
    stored: int
    dropped: dict[str, int]
    rank: int = 0
    status: str | None = None
    ended_ns: int | None = None
    error: str | None = None


class DeliveryFields(msgspec.Struct):
    journals: list[JournalFields]


class Listed(RunFields, kw_only=True):
    """A run of ``GET /v1/runs``; environment and notes only with its details."""

    params: dict[str, Any]
    metrics: dict[str, SeriesFields]
    tags: dict[str, str]
    alerts: AlertCount = AlertCount()  # a collector of before has none
    environment: EnvironmentFields | None = None
    notes: tuple[Note, ...] = ()

    def row(self) -> RunRow:
        return run_row(self, self.environment, self.notes)

    def parts(self) -> dict[str, Any]:
        return {
            "current_params": self.params,
            "tags": self.tags,
            "series": series_rows(self.id, self.metrics),
            "alert_counts": self.alerts,
        }


class Page(msgspec.Struct):
    runs: list[Listed]
    next: str | None


class Record(msgspec.Struct):
    """The answer of ``GET /v1/runs/{run}``."""

    run: RunFields
    params: dict[str, Revision]
    tags: dict[str, str]
    metrics: dict[str, SeriesFields]
    artifacts: list[Artifact]
    environment: EnvironmentFields
    notes: tuple[Note, ...]
    delivery: DeliveryFields
    datasets: list[Dataset] = []  # a collector of before has none, nor these
    alerts: list[Alert] = []
    serves: list[ServedModel] = []

    def row(self) -> RunRow:
        return run_row(self.run, self.environment, self.notes)

    def parts(self) -> dict[str, Any]:
        run = self.run.id
        return {
            "params": [
                ParamRow(key, revision.value, revision.source, number, revision.time_ns)
                for key, newest in self.params.items()
                for number, revision in enumerate(newest.revisions or [newest])
            ],
            "tags": self.tags,
            "series": series_rows(run, self.metrics),
            "artifacts": self.artifacts,
            "datasets": self.datasets,
            "alerts": self.alerts,
            "serves": self.serves,
            "delivery": [Delivery(run=run, **msgspec.structs.asdict(entry)) for entry in self.delivery.journals],
        }


def run_row(run: RunFields, environment: EnvironmentFields | None, notes: tuple[Note, ...]) -> RunRow:
    return RunRow(
        run=run.id,
        name=run.name,
        experiment=run.experiment,
        kind=run.kind,
        status=run.status,
        started_ns=run.started_ns,
        ended_ns=run.ended_ns,
        heartbeat_ns=run.heartbeat_ns,
        error=run.error,
        identity=RunStarted(
            run=run.id,
            name=run.name,
            experiment=run.experiment,
            time_ns=run.started_ns,
            kind=run.kind,
            script=run.script,
            command=run.command,
            working_directory=run.working_directory,
            host=run.host,
            user=run.user,
            pid=run.pid,
            python=run.python,
            rank=run.rank,
            world_size=run.world_size,
        ),
        environment=_environment(environment),
        notes=notes,
    )


def _environment(fields: EnvironmentFields | None) -> Environment | None:
    if fields is None or fields.time_ns is None:
        return None
    return Environment(
        time_ns=fields.time_ns,
        git_commit=fields.git.commit,
        git_branch=fields.git.branch,
        git_dirty=fields.git.dirty,
        git_remote=fields.git.remote,
        platform=fields.platform,
        packages=fields.packages,
        variables=fields.variables,
    )


def series_rows(run: str, metrics: dict[str, SeriesFields]) -> list[SeriesRow]:
    return [SeriesRow(run=run, **msgspec.structs.asdict(fields)) for fields in metrics.values()]
