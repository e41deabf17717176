"""One recorded run as an object."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from looptap.reading.asking import address_of, flush_first, imported_pandas, objects, opened, settings_now
from looptap.reading.waiting import in_journal

if TYPE_CHECKING:
    import pandas as pd

    from looptap_collector.backend import Backend, RunRow, SeriesRow
    from looptap_collector.profiles.shapes import Profile

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
    """One run as it was when it was asked for. Only :meth:`history`, :meth:`profile`, :meth:`download` and what
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

        Of a job of several processes, ``history("loss")`` is that of rank 0, and ``history("loss", {"rank": "2"})`` that of
        another. ``slowest_rank`` and ``slowest_rank_lag`` (seconds behind the median of the others) are made from the times of
        the ranks.
        """
        pandas = imported_pandas()
        with opened(self.store) as backend:
            from looptap_collector import slowest

            if key in slowest.KEYS and key not in self.metrics and not context:
                found = slowest.history(backend, self.id, key, points=thin)
            else:
                summary = self._series(key, context)
                series = (self.id, summary.key, dict(summary.context))
                found = backend.history(*series) if thin is None else backend.chart(*series, points=thin)
        times = pandas.to_datetime(found.times_ns, unit="ns", utc=True)
        table: pd.DataFrame = pandas.DataFrame({"step": found.steps, "time": times, "value": found.values})
        return table

    def download(self, name_or_digest: str, to: str | os.PathLike[str] = ".", *, overwrite: bool = False) -> Path:
        """Get the content of one of the run's :attr:`artifacts` and return the absolute path of the file.

        ``name_or_digest`` is an artifact's name (the newest of that name), its SHA-256 or 6 or more digits of its beginning;
        ``to`` a file, or a folder that gets a file of the artifact's name; one that ends with ``/`` is made. The file appears
        when all of it is there and verified. Raises LookupError when the run has no such artifact or not its content,
        FileExistsError when there is a file and ``overwrite`` is false, OSError when the file cannot be written or the artifact
        store cannot be reached.
        """
        from looptap_collector.artifacts.downloads import choose, place_for, save
        from looptap_collector.opening import contents_to_read

        found = choose(self.artifacts, name_or_digest)
        target = place_for(to, found.name).absolute()
        assert found.digest is not None
        save(contents_to_read(self.store, settings_now()), found.digest, target, overwrite=overwrite)
        return target

    @property
    def datasets(self) -> pd.DataFrame:
        """What the run was fed with, one row per data set, by role and name: ``name``, ``time_ns``, ``role``, ``kind``,
        ``class_name``, ``length``, ``split``, ``root``, ``transform``, ``fingerprint``, ``algorithm``, ``covers``, ``missing``
        (why there is no fingerprint), ``schema``, ``details``, ``version``. Goes back to the store."""
        from looptap_collector.datasets import COLUMNS, dataset_fields, of_run

        with opened(self.store) as backend:
            return objects([dataset_fields(item) for item in of_run(backend, self.id)], COLUMNS)

    @property
    def alerts(self) -> pd.DataFrame:
        """What the run warned of while it trained, oldest first: ``kind``, ``severity`` (warning, critical), ``state`` (fired, or
        recovered when it was over), ``message``, ``time_ns``, ``key``, ``value``, ``threshold``, ``step``, ``rank``. Goes back to
        the store."""
        from looptap_collector.alerts import COLUMNS, alert_fields, of_run

        with opened(self.store) as backend:
            return objects([alert_fields(item) for item in of_run(backend, self.id)], COLUMNS)

    @property
    def serves(self) -> pd.DataFrame:
        """What a serving process has answered, one row per version of a model: ``model``, ``version``, ``trained_by`` and
        ``trained_by_id`` (the run that wrote it), ``requests``, ``errors``, ``error_rate``, ``p50`` and ``p99`` (seconds, of the
        latest 1,000 windows), ``first_ns``, ``last_ns``. Goes back to the store."""
        import msgspec

        from looptap_collector.serving.of_run import COLUMNS, served_by

        with opened(self.store) as backend:
            return objects([msgspec.structs.asdict(one) for one in served_by(backend, self.id)], COLUMNS)

    def compare_data(self, other: Run | str) -> pd.DataFrame:
        """In what the data of this run and of another differs, one row per data set: ``role``, ``name``, ``outcome`` (``same``,
        ``different``, ``unknown`` without two fingerprints of the same kind, or in which run alone it is), ``fields`` that differ
        beside the fingerprint, ``first`` and ``second`` (dicts, or None). Raises LookupError when there is no such run."""
        from looptap_collector.datasets import compared, compared_fields, of_run
        from looptap_collector.query import find_run

        with opened(self.store) as backend:
            second = other.id if isinstance(other, Run) else find_run(backend, other).run
            found = compared(of_run(backend, self.id), of_run(backend, second))
        return objects(map(compared_fields, found), ("role", "name", "outcome", "fields", "first", "second"))

    def profile(self, *, price_per_hour: float | None = None, grid_kg_per_kwh: float | None = None) -> Profile:
        """Where its time went, and what held it back: ``findings``, worst first, ``phases`` of the step, ``energy``, ``cost``, and
        what was ``not_looked_at``. Price and CO₂e are what is given, else what the run was told by the settings of these names."""
        from looptap_collector.profiles.profile import profile_of
        from looptap_collector.query import find_run

        with opened(self.store) as backend:
            row = find_run(backend, self.id)
            return profile_of(backend, row, price_per_hour=price_per_hour, grid_kg_per_kwh=grid_kg_per_kwh)

    def runs_with_same_data(self, role: str | None = None) -> pd.DataFrame:
        """Other runs that were fed with the same data (by its fingerprint, under whatever name and in whatever role there), the
        latest first: ``run`` (id), ``run_name``, and the columns of :attr:`datasets`. ``role``: only what this run used in that
        role."""
        from looptap_collector.datasets import COLUMNS, same_data

        with opened(self.store) as backend:
            return objects(same_data(backend, self.id, role), ("run", "run_name", *COLUMNS))

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
    flush_first()
    address = address_of(store)
    with opened(address) as backend:
        from looptap_collector.query import find_run

        return _read(backend, find_run(backend, run), address)


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
