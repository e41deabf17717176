"""The runs of a store as a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from looptap.reading.asking import address_of, flush_first, imported_pandas, opened

if TYPE_CHECKING:
    import pandas as pd

    from looptap_collector.backend import SeriesRow

_COLUMNS = (
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
    pandas = imported_pandas()
    flush_first()
    with opened(address_of(store)) as backend:
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
    columns = [*_COLUMNS, *sorted(params), *sorted(metrics), *sorted(tags)]
    frame: pd.DataFrame = pandas.DataFrame(table, columns=columns)
    for column in ("started", "ended"):
        # Through Int64, not float: nanoseconds since 1970 do not fit into a float's 53 bits.
        whole = pandas.array([line[column] for line in table], dtype="Int64")
        frame[column] = pandas.to_datetime(pandas.Series(whole), unit="ns", utc=True).astype("datetime64[ns, UTC]")
    return frame
