"""Recorded runs as Python objects and pandas tables.

::

    runs = looptap.search_runs(experiment="baseline")        # one row per run
    run = looptap.get_run("latest")
    run.params["lr"], run.metrics["loss"].last
    run.history("loss").plot(x="step", y="value")

Reading needs the collector and pandas, which training does not; both are imported when the first question is asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from looptap.journal.folder import Unusable, find_journals, read_meta
from looptap.journal.reader import unread
from looptap.session import SESSION
from looptap.settings import Settings, journal_root, store_to_read

if TYPE_CHECKING:
    import pandas as pd

    from looptap_collector.backend import Backend, RunRow, SeriesRow

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class MetricSummary:
    """One series in a few numbers. ``last`` is the value at the highest step and may be NaN or infinite;
    ``min`` and ``max`` leave NaN out and are None when there is nothing else."""

    key: str
    context: Mapping[str, str]
    count: int
    nan_count: int
    last: float
    min: float | None
    max: float | None
    first_step: int
    last_step: int


@dataclass(frozen=True)
class ArtifactSummary:
    """A file of the run. ``digest`` is its SHA-256 in hex; None when the content is not kept, and
    ``missing`` says why."""

    name: str
    role: str
    kind: str | None
    size_bytes: int
    digest: str | None
    missing: str | None
    path: str | None
    step: int | None


@dataclass(frozen=True)
class Delivery:
    """Counts of records: ``emitted = stored + in_journal + sum(dropped.values())``. Points are records, too."""

    emitted: int
    stored: int
    in_journal: int
    dropped: Mapping[str, int]
    points_stored: int


@dataclass(frozen=True)
class Run:
    """One run as it was when it was asked for. Only :meth:`history`, :meth:`download` and what
    tells of data go back to the store.

    ``metrics`` are by key, ``loss``; a key with several series has one entry for each, ``lr{group=0}``,
    ``lr{group=1}``. ``environment`` has ``python``, ``platform``, ``git`` (commit, branch, dirty, remote),
    ``packages``, ``variables``. ``ended`` is None while the run goes on; times are in UTC, to the
    microsecond.
    """

    id: str
    name: str
    experiment: str
    status: str
    started: datetime
    ended: datetime | None
    error: str | None
    params: Mapping[str, Any]
    param_sources: Mapping[str, str]
    metrics: Mapping[str, MetricSummary]
    artifacts: tuple[ArtifactSummary, ...]
    environment: Mapping[str, Any]
    tags: Mapping[str, str]
    delivery: Delivery
    store: str

    def __repr__(self) -> str:
        from looptap_collector.query import main_loss

        loss = main_loss(list(self.metrics.values()))
        last = f", {loss.key} {loss.last:.6g}" if loss is not None else ""
        text = f"<Run {self.name} {self.status}, experiment {self.experiment}{last}>"
        return "".join(char if char.isprintable() else " " for char in text)

    def history(self, key: str, context: Mapping[str, str] | None = None, *, thin: int | None = None) -> pd.DataFrame:
        """The points of one series in order of step: ``step`` (int64), ``time`` (datetime64[ns, UTC]),
        ``value`` (float64, exactly as recorded, NaN and infinities included).

        ``key`` is a metric's key, or an entry of :attr:`metrics`. ``thin`` keeps at most that many points
        (7 or more), among them the first, the last and every extreme. Raises KeyError when the run has no
        such series or, without ``context``, when the key has more than one.
        """
        pandas = _pandas()
        summary = self._series(key, context)
        with _opened(self.store) as backend:
            series = (self.id, summary.key, dict(summary.context))
            found = backend.history(*series) if thin is None else backend.chart(*series, points=thin)
        times = pandas.to_datetime(found.times_ns, unit="ns", utc=True)
        table: pd.DataFrame = pandas.DataFrame({"step": found.steps, "time": times, "value": found.values})
        return table

    def download(self, name_or_digest: str, to: str | os.PathLike[str] = ".", *, overwrite: bool = False) -> Path:
        """Get the content of one of the run's :attr:`artifacts` and return the absolute path of the file.

        ``name_or_digest`` is an artifact's name (the newest of that name), its SHA-256 or 8 or more digits of its beginning;
        ``to`` a file, or a folder that gets a file of the artifact's name. The file appears when all of it is there and
        verified. Raises LookupError when the run has no such artifact or not its content, FileExistsError when there is a
        file and ``overwrite`` is false, OSError when the file cannot be written or the artifact store cannot be reached.
        """
        from looptap_collector.artifacts.downloads import choose, file_name, save
        from looptap_collector.opening import contents_to_read

        found = choose(self.artifacts, name_or_digest)
        target = Path(to).absolute()
        if target.is_dir():
            target = target / file_name(found.name)
        assert found.digest is not None
        save(contents_to_read(self.store, _settings()), found.digest, target, overwrite=overwrite)
        return target

    @property
    def datasets(self) -> pd.DataFrame:
        """What the run was fed with, one row per data set, by role and name: ``name``, ``time_ns``, ``role``, ``kind``,
        ``class_name``, ``length``, ``split``, ``root``, ``transform``, ``fingerprint``, ``algorithm``, ``covers``, ``missing``
        (why there is no fingerprint), ``schema``, ``details``, ``version``. Goes back to the store."""
        from looptap_collector.datasets import COLUMNS, dataset_fields, of_run

        with _opened(self.store) as backend:
            return _objects([dataset_fields(item) for item in of_run(backend, self.id)], COLUMNS)

    def compare_data(self, other: Run | str) -> pd.DataFrame:
        """In what the data of this run and of another differs, one row per data set: ``role``, ``name``, ``outcome`` (``same``,
        ``different``, ``unknown`` without two fingerprints of the same kind, or in which run alone it is), ``fields`` that differ
        beside the fingerprint, ``first`` and ``second`` (dicts, or None). Raises LookupError when there is no such run."""
        from looptap_collector.datasets import compared, compared_fields, of_run
        from looptap_collector.query import find_run

        with _opened(self.store) as backend:
            second = other.id if isinstance(other, Run) else find_run(backend, other).run
            found = compared(of_run(backend, self.id), of_run(backend, second))
        return _objects(map(compared_fields, found), ("role", "name", "outcome", "fields", "first", "second"))

    def runs_with_same_data(self, role: str | None = None) -> pd.DataFrame:
        """Other runs that were fed with the same data (by its fingerprint, under whatever name and in whatever role there), the
        latest first: ``run`` (id), ``run_name``, and the columns of :attr:`datasets`. ``role``: only what this run used in that
        role."""
        from looptap_collector.datasets import COLUMNS, same_data

        with _opened(self.store) as backend:
            return _objects(same_data(backend, self.id, role), ("run", "run_name", *COLUMNS))

    def _series(self, key: str, context: Mapping[str, str] | None) -> MetricSummary:
        if context is None and key in self.metrics:
            return self.metrics[key]
        of_key = [(label, item) for label, item in self.metrics.items() if item.key == key]
        if context is not None:
            wanted = {str(name): str(value) for name, value in context.items()}
            for _, item in of_key:
                if dict(item.context) == wanted:
                    return item
        if not of_key:
            from looptap_collector.query import series_label

            # As `looptap show` names it, with its context also where the key alone would do.
            for item in self.metrics.values():
                if context is None and series_label(item.key, dict(item.context)) == key:
                    return item
            raise KeyError(f"run {self.name} has no metric {key!r}; it has: {', '.join(self.metrics) or 'none'}")
        raise KeyError(
            f"{key!r} has several series: {', '.join(label for label, _ in of_key)}; give one of them or its context"
        )


def get_run(run: str = "latest", store: str | os.PathLike[str] | None = None) -> Run:
    """One run by id, the beginning of an id, name (the newest of that name), or ``latest``.

    ``store`` is what :func:`looptap.autolog` would take: a folder, or the address of a collector. Raises LookupError when
    there is no such run, ValueError for an address that cannot be used, FileNotFoundError when there is no store, OSError in
    one line when a collector cannot be asked or does not let us in, ModuleNotFoundError when the collector is not installed.
    """
    _flush()
    address = _address(store)
    with _opened(address) as backend:
        from looptap_collector.query import find_run

        return _read(backend, find_run(backend, run), address)


def search_runs(
    store: str | os.PathLike[str] | None = None,
    experiment: str | None = None,
    status: str | None = None,
    limit: int | None = None,
    *,
    filter: str | None = None,
    order: str | Sequence[str] = (),
) -> pd.DataFrame:
    """A table with one row per run, newest first.

    ``filter`` chooses runs, ``metrics.loss.last < 0.3 and params.lr = 0.001``; ``order`` is a field, or several, with ``-`` in
    front for the greatest first: ``-metrics.acc.max`` (``docs/filters.md``). Runs without the value come last.

    Columns: ``id``, ``name``, ``experiment``, ``status``, ``started`` and ``ended`` (datetime64[ns, UTC];
    NaT while running), ``duration_seconds``, ``script``, ``git_commit``, then ``params.<key>``,
    ``metrics.<key>`` (last value) and ``tags.<key>``; a cell is missing where a run has no such entry.
    Raises as :func:`get_run` does, ModuleNotFoundError without pandas, and ValueError for a filter or an order that cannot be
    understood: the ``position`` of the error is where.
    """
    pandas = _pandas()
    _flush()
    with _opened(_address(store)) as backend:
        from looptap_collector.filters import narrowed
        from looptap_collector.query import duration_seconds, found_runs, series_labels

        chosen = narrowed(filter, experiment=experiment, status=status)
        rows = list(found_runs(backend, chosen, [order] if isinstance(order, str) else order, limit))
        series: dict[str, list[SeriesRow]] = {row.run: [] for row in rows}
        for item in backend.series(list(series)):
            series[item.run].append(item)
        all_params, all_tags = backend.current_params(list(series)), backend.current_tags(list(series))
        table = []
        params: dict[str, None] = {}
        metrics: dict[str, None] = {}
        tags: dict[str, None] = {}
        for row in rows:
            own_params = {f"params.{key}": value for key, value in all_params[row.run].items()}
            labels = series_labels(series[row.run])
            own_metrics = {f"metrics.{label}": item.last for label, item in zip(labels, series[row.run], strict=True)}
            own_tags = {f"tags.{key}": value for key, value in all_tags[row.run].items()}
            params |= dict.fromkeys(own_params)
            metrics |= dict.fromkeys(own_metrics)
            tags |= dict.fromkeys(own_tags)
            table.append(
                {
                    "id": row.run,
                    "name": row.name,
                    "experiment": row.experiment,
                    "status": row.status,
                    "started": row.started_ns,
                    "ended": row.ended_ns,
                    "duration_seconds": duration_seconds(row),
                    "script": row.identity.script,
                    "git_commit": row.environment.git_commit if row.environment else None,
                    **own_params,
                    **own_metrics,
                    **own_tags,
                }
            )
    columns = [*_RUN_COLUMNS, *sorted(params), *sorted(metrics), *sorted(tags)]
    frame: pd.DataFrame = pandas.DataFrame(table, columns=columns)
    for column in ("started", "ended"):
        # Through Int64, not float: nanoseconds since 1970 do not fit into a float's 53 bits.
        whole = pandas.array([line[column] for line in table], dtype="Int64")
        frame[column] = pandas.to_datetime(pandas.Series(whole), unit="ns", utc=True).astype("datetime64[ns, UTC]")
    return frame


_RUN_COLUMNS = (
    "id",
    "name",
    "experiment",
    "status",
    "started",
    "ended",
    "duration_seconds",
    "script",
    "git_commit",
)


def runs_with_journals() -> set[str]:
    """Ids of the runs that have a journal on this machine: they are under way here, or wait to be delivered."""
    root = journal_root()
    found = set()
    with suppress(Unusable, OSError):
        for folder in find_journals(root) if root is not None else []:
            with suppress(Unusable):
                found.add(read_meta(folder).run)
    return found


def in_journal(journal: str, position: int) -> int:
    """How many records of this journal, from ``position`` on, wait on this machine's disk; 0 when it is not here."""
    root = journal_root()
    try:
        # The id came from a store, so it is compared with the folders that there are, never made into a path.
        found = [] if root is None else [folder for folder in find_journals(root) if folder.name == journal]
        return sum(unread(folder, position) for folder in found)
    except (Unusable, OSError):
        return 0


def _read(backend: Backend, row: RunRow, address: str) -> Run:
    from looptap_collector.query import accounts
    from looptap_collector.record import environment_fields

    params = backend.params(row.run)
    series = backend.series([row.run])
    account = accounts(backend, row.run, in_journal)
    return Run(
        id=row.run,
        name=row.name,
        experiment=row.experiment,
        status=row.status,
        started=_moment(row.started_ns),
        ended=None if row.ended_ns is None else _moment(row.ended_ns),
        error=row.error,
        params={param.key: param.value for param in params},
        param_sources={param.key: param.source for param in params},
        metrics=_summaries(series),
        artifacts=tuple(
            ArtifactSummary(
                name=item.name,
                role=item.role,
                kind=item.kind,
                size_bytes=item.size_bytes,
                digest=item.digest,
                missing=item.missing,
                path=item.path,
                step=item.step,
            )
            for item in backend.artifacts(row.run)
        ),
        environment=environment_fields(row),
        tags=backend.tags(row.run),
        delivery=Delivery(
            account.emitted,
            account.stored,
            account.in_journal,
            account.dropped,
            sum(item.count for item in series),
        ),
        store=address,
    )


def _summaries(series: Sequence[SeriesRow]) -> dict[str, MetricSummary]:
    from looptap_collector.query import series_labels

    times_used: dict[str, int] = {}
    for item in series:
        times_used[item.key] = times_used.get(item.key, 0) + 1
    return {
        item.key if times_used[item.key] == 1 else label: MetricSummary(
            item.key,
            dict(item.context),
            item.count,
            item.nan_count,
            item.last,
            item.min,
            item.max,
            item.first_step,
            item.last_step,
        )
        for label, item in zip(series_labels(series), series, strict=True)
    }


def _moment(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def _flush() -> None:
    """What this process has recorded so far is in the store before it is asked."""
    if SESSION.run is not None:
        SESSION.flush()


def _address(store: str | os.PathLike[str] | None) -> str:
    if store is None and SESSION.run is not None:
        return SESSION.run.store
    address = store_to_read(store)
    if address == "off":
        raise ValueError("cannot read from the store 'off': give a folder, or the address of a collector")
    return address


def _settings() -> Settings | None:
    """Those of the run under way, which may have been given a token; None: those of the environment."""
    return SESSION.settings if SESSION.run is not None else None


@contextmanager
def _opened(address: str) -> Iterator[Backend]:
    try:
        from looptap_collector.opening import open_to_read

        backend = open_to_read(address, _settings())
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading runs needs {error.name}: pip install 'looptap[collector]'", name=error.name
        ) from error
    try:
        yield backend
    finally:
        backend.close()


def _objects(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Each value as it is: a missing length does not turn the others into floats."""
    table: pd.DataFrame = _pandas().DataFrame(list(rows), columns=list(columns), dtype=object)
    return table


def _pandas() -> Any:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("tables need pandas: pip install 'looptap[pandas]'", name=error.name) from error
    return pandas
