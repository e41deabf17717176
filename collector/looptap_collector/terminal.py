"""Runs as text for a terminal, most of it in tables.

Whatever comes from a store goes through :mod:`looptap_collector.printable`, and nothing of it is ever read as markup.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from looptap.events import Artifact, Dataset
from looptap_collector import alerts, ranks, resources, slowest
from looptap_collector.backend import AlertCount, Backend, Delivery, History, ParamRow, RunRow, SeriesRow
from looptap_collector.datasets import Compared, of_run
from looptap_collector.fitting import Column, Fitted, Trend
from looptap_collector.plots import held, plot
from looptap_collector.printable import local_time, number, printable, setting, size, took
from looptap_collector.query import (
    Accounts,
    InJournal,
    accounts,
    duration_seconds,
    interest,
    is_chosen,
    is_lasting,
    is_loss,
    main_loss,
    series_labels,
)
from looptap_collector.serving.drifts import replicas_of
from looptap_collector.serving.of_run import served_by
from looptap_collector.serving.terminal import served_models, serves_in_words

STATUS_STYLES = {
    "running": "cyan",
    "finished": "green",
    "failed": "red",
    "killed": "yellow",
    "lost": "yellow",
    "partial": "yellow",
}

#: More series than this are listed with their numbers only: each trend reads the points of its series.
TRENDS = 24
PLOTS = 3
#: For the scale of a plot, a number of six digits with its sign and exponent.
_MARGIN = 14
_RESOURCE_POINTS = 200
#: The packages that bring them; TensorFlow comes under several names. The page shows the same.
_FRAMEWORKS = (
    "torch",
    *("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-macos", "tensorflow-rocm", "tf-nightly"),
    "keras",
    "jax",
)
#: Of larger jobs nobody counts those that never came.
_MOST_RANKS = 100_000

#: A live agent is heard from much more often.
SILENCE_NS = 60 * 10**9


def console(file: IO[str] | None = None) -> Console:
    """A console for this process. Into a pipe it writes wide and plain, so that nothing is cut."""
    stream = file if file is not None else sys.stdout
    piped = not stream.isatty()
    width = 160 if piped and "COLUMNS" not in os.environ else None
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def runs_table(
    rows: Sequence[RunRow],
    series: Sequence[SeriesRow],
    warned: Mapping[str, AlertCount] | None = None,
    now_ns: int | None = None,
    serves: Mapping[str, Sequence[str]] | None = None,
) -> Fitted:
    """One line for each run, newest first. By the id of a run, ``warned``: how many alerts it has, and ``serves``: of a serving
    process, the names of its models."""
    by_run: dict[str, list[SeriesRow]] = {}
    for item in series:
        by_run.setdefault(item.run, []).append(item)
    table = Fitted(
        *(Column("run", least=16), Column("status", least=9), Column("started")),
        *(Column("took", "right"), Column("last loss", "right"), Column("points", "right", spare=2)),
        Column("script", least=8, spare=1, is_cut=True),
    )
    for row in rows:
        own = by_run.get(row.run, [])
        loss = main_loss(own)
        last = number(loss.last) if loss else "–"
        table.add_row(
            Text(printable(row.name)),
            status_text(row, (warned or {}).get(row.run)),
            Text(local_time(row.started_ns, now_ns)),
            Text(took(duration_seconds(row))),
            Text(last if serves is None or row.run not in serves else serves_in_words(serves[row.run])),
            Text(f"{sum(item.count for item in own):,}"),
            Text(printable(os.path.basename(row.identity.script or ""))),
        )
    return table


def show_run(out: Console, backend: Backend, run: RunRow, in_journal: InJournal | None = None) -> None:
    """Print one run: who it was, what it was set to, what came of it, and what of it was lost."""
    identity = run.identity
    out.print(
        Text(printable(run.name), style="bold"),
        status_text(run),
        Text(f"({printable(run.run)})", style="dim"),
    )
    is_running = run.status == "running"
    heard_ns = run.heartbeat_ns or run.started_ns
    facts = [
        f"started {local_time(run.started_ns)}",
        f"{'running for' if is_running else 'took'} {took(duration_seconds(run))}",
        # A program that was killed cannot say so; until somebody finds its journal, silence is all there is to see.
        f"not heard from since {local_time(heard_ns)}" if is_running and time.time_ns() - heard_ns > SILENCE_NS else "",
        f"experiment {printable(run.experiment)}",
        " on ".join(printable(item) for item in (identity.user, identity.host) if item),
    ]
    out.print(Text(" · ".join(fact for fact in facts if fact)))
    if identity.command:
        out.print(Text("$ " + printable(" ".join(identity.command)), style="dim"))
    if run.error:
        out.print(Text(printable(run.error), style="red"))
    episodes = alerts.episodes(alerts.of_run(backend, run.run))
    replicas = replicas_of(backend, run.run, episodes)
    for episode in episodes:
        out.print(alert_line(episode, replicas.get(episode.fired.time_ns, 1)))
    if served := served_by(backend, run.run):
        out.print(served_models(served))
    if identity.world_size > 1:
        out.print(Text(ranks_line(backend.delivery(run.run), identity.world_size)))

    params = backend.params(run.run)
    if params:
        table = Fitted(Column("param", least=24), Column("value", least=20), Column("source"))
        for param in sorted(params, key=_place_of_param):
            table.add_row(
                Text(printable(param.key)), Text(resources.param_in_words(param)), Text(printable(param.source), "dim")
            )
        out.print(table)
    _show_metrics(out, backend, run)
    if artifacts := backend.artifacts(run.run):
        out.print(artifacts_table(artifacts))
    if datasets := of_run(backend, run.run):
        out.print(datasets_table(datasets))
    tags = backend.tags(run.run)
    if tags:
        out.print(Text("tags  " + " · ".join(f"{printable(k)}={printable(v)}" for k, v in tags.items())))
    out.print(Text(environment_line(run), style="dim"))
    points = sum(row.count for row in backend.series([run.run]))
    account = accounts(backend, run.run, in_journal)
    out.print(Text(delivery_line(account, points), style="yellow" if account.dropped else ""))
    for note in run.notes:
        out.print(Text(f"note  {printable(note.topic)}: {printable(note.message)}"))


def _place_of_param(param: ParamRow) -> tuple[bool, bool, str]:
    """What the user chose comes first, what the machine gave comes last."""
    return not is_chosen(param.source), param.source == "allotment", param.key


def _show_metrics(out: Console, backend: Backend, run: RunRow) -> None:
    series = backend.series([run.run])
    if not series:
        out.print(Text("no metrics"))
        return
    labelled = sorted(zip(series_labels(series), series, strict=True), key=lambda pair: interest(pair[1]))
    of_others = [row for _, row in labelled if "rank" in row.context]
    if len(of_others) < len(labelled):
        labelled = [(label, row) for label, row in labelled if "rank" not in row.context]
    used = [(label, row) for label, row in labelled if resources.is_resource(row.key)]
    labelled = [(label, row) for label, row in labelled if not resources.is_resource(row.key)]
    histories = [backend.history(run.run, row.key, row.context) for _, row in labelled[:TRENDS]]
    until = max((row.last_step for _, row in labelled), default=0)
    numbers = [Column(title, "right") for title in ("last", "min", "max")]
    # How many are NaN is beside their number, and must be seen.
    count = Column("points", "right", spare=0 if any(row.nan_count for _, row in labelled) else 2)
    table = Fitted(
        *(Column("metric", least=24), *numbers, count, Column("steps", "right", spare=3)),
        Column("trend", least=8, spare=1),
    )
    for index, (label, row) in enumerate(labelled):
        points = f"{row.count:,}" + (f" ({row.nan_count:,} NaN)" if row.nan_count else "")
        table.add_row(
            Text(printable(label)),
            Text(number(row.last)),
            Text(number(row.min)),
            Text(number(row.max)),
            Text(points),
            Text(f"{row.first_step}–{row.last_step}"),
            _trend(row, histories[index], until) if index < len(histories) else Text(""),
        )
    if labelled:
        out.print(table)
    if used:
        out.print(_resources_table(backend, run, used))
    if others := {int(row.context["rank"]) for row in of_others if row.context["rank"].isdecimal()}:
        word = "rank" if len(others) == 1 else "ranks"
        out.print(
            Text(f"{word} {ranks.in_words(others)}: {len(of_others)} more series (--json lists them)", style="dim")
        )
    if slow := slowest.in_words(backend, run.run, series):
        out.print(Text(slow))
    changing = [
        (label, row, history)
        for (label, row), history in zip(labelled, histories, strict=False)
        if row.count > 2 and (is_loss(row.key) or row.min != row.max)
    ]
    width = max(16, min(64, out.width - _MARGIN))
    for label, row, history in changing[:PLOTS]:
        out.print(Text(printable(label), style="bold"))
        for line in plot(history, width, lasts_until=until if is_lasting(row.key) else None):
            out.print(Text(line, style="cyan"), no_wrap=True)


def _trend(row: SeriesRow, history: History, until: int) -> Trend:
    return Trend((held(history, until, _RESOURCE_POINTS) if is_lasting(row.key) else history).values)


def _resources_table(backend: Backend, run: RunRow, used: Sequence[tuple[str, SeriesRow]]) -> Fitted:
    """What the run used of its machine, in units that people read."""
    numbers = [Column(title, "right") for title in ("last", "min", "max")]
    table = Fitted(
        *(Column("resource", least=26), *numbers, Column("samples", "right", spare=2)),
        Column("trend", least=8, spare=1),
    )
    for label, row in used:
        unit = resources.unit(row.key)
        history = backend.chart(run.run, row.key, row.context, points=_RESOURCE_POINTS)
        table.add_row(
            Text(printable(label.removeprefix(resources.PREFIX))),
            *(Text(resources.in_words(value, unit)) for value in (row.last, row.min, row.max)),
            Text(f"{row.count:,}"),
            Trend(history.values),
        )
    return table


def artifacts_table(artifacts: Sequence[Artifact]) -> Fitted:
    """One line for each file of a run."""
    table = Fitted(
        *(Column("file", least=20), Column("role"), Column("step", "right"), Column("size", "right")),
        Column("sha256", least=12),
    )
    for item in artifacts:
        digest = item.digest[:12] if item.digest else f"not kept: {item.missing}"
        table.add_row(
            Text(printable(item.name)),
            Text(printable(item.role)),
            Text("–" if item.step is None else str(item.step)),
            Text(size(item.size_bytes)),
            Text(printable(digest)),
        )
    return table


def datasets_table(datasets: Sequence[Dataset], runs: Sequence[str] = ()) -> Fitted:
    """One line for each data set; with ``runs``, the name of the run that used it in front of each."""
    table = Fitted(
        *([Column("run", least=16)] if runs else []),
        *(Column("dataset", least=12), Column("role"), Column("split", spare=1), Column("length", "right")),
        *(Column("fingerprint", least=12), Column("of", least=8), Column("where", least=24, spare=2)),
    )
    for at, item in enumerate(datasets):
        table.add_row(
            *([Text(printable(runs[at]))] if runs else []),
            Text(printable(item.name)),
            Text(printable(item.role)),
            Text(printable(item.split or "–")),
            Text("–" if item.length is None else f"{item.length:,}"),
            Text(fingerprint_text(item)),
            Text(printable(item.covers or "–")),
            Text(printable(item.root or item.class_name or "–")),
        )
    return table


def fingerprint_text(item: Dataset) -> str:
    return printable(item.fingerprint[:12] if item.fingerprint else f"none: {item.missing or 'not known'}")


def comparison_table(compared: Sequence[Compared]) -> Fitted:
    """One line for each data set of two runs."""
    table = Fitted(
        *(Column("dataset", least=12), Column("role"), Column("data", least=9), Column("first", least=12)),
        *(Column("second", least=12), Column("differs in", least=16)),
    )
    for one in compared:
        differing = [
            f"{name}: {_short(getattr(one.first, name))} → {_short(getattr(one.second, name))}" for name in one.fields
        ]
        table.add_row(
            Text(printable(one.name)),
            Text(printable(one.role)),
            Text(one.outcome, style={"same": "green", "different": "red"}.get(one.outcome, "yellow")),
            Text("–" if one.first is None else fingerprint_text(one.first)),
            Text("–" if one.second is None else fingerprint_text(one.second)),
            Text("; ".join(differing) or "–"),
        )
    return table


def _short(value: Any) -> str:
    told = "–" if value is None else setting(value)
    return told if len(told) <= 60 else told[:59] + "…"


def status_text(run: RunRow, warned: AlertCount | None = None) -> Text:
    """With the number of its alerts, where there are any."""
    told = Text(printable(run.status), style=STATUS_STYLES.get(run.status, ""))
    if warned is not None and warned.fired:
        told.append(f", {alerts.in_words(warned)}", style="yellow")
    return told


def alert_line(episode: alerts.Episode, replicas: int = 1) -> Text:
    """``alert  stall 14:03:10 today: no step for 75 s · over 14:05:00 today``; of a drift, how many replicas tell it."""
    alert = episode.fired
    of_rank = f" rank {alert.rank}" if alert.rank else ""
    line = Text(f"alert  {printable(alert.kind)}{of_rank} {local_time(alert.time_ns)}: {printable(alert.message)}")
    if replicas > 1:
        line.append(f" · told by {replicas} replicas")
    if episode.recovered is not None:
        return line.append(f" · over {local_time(episode.recovered.time_ns)}", style="dim")
    line.stylize("red" if alert.severity == "critical" else "yellow")
    return line


def ranks_line(journals: Sequence[Delivery], world_size: int) -> str:
    """``4 processes: ranks 0–1, 3 finished; rank 2 killed``."""
    ends = ranks.ends_of(journals)
    by_status: dict[str, list[int]] = {}
    for rank, end in ends.items():
        by_status.setdefault("running" if end is None else end.status, []).append(rank)
    if silent := [rank for rank in range(world_size) if rank not in ends] if world_size <= _MOST_RANKS else []:
        by_status["not heard of"] = silent
    told = [
        f"{'rank' if len(of_status) == 1 else 'ranks'} {ranks.in_words(of_status)} {printable(status)}"
        for status, of_status in by_status.items()
    ]
    return f"{world_size:,} processes: {'; '.join(told)}"


def environment_line(run: RunRow) -> str:
    found = run.environment
    parts = [f"python {run.identity.python}" if run.identity.python else ""]
    if found is not None:
        parts.append(found.platform or "")
        if found.git_commit:
            dirty = ", uncommitted changes" if found.git_dirty else ""
            branch = f" on {found.git_branch}" if found.git_branch else ""
            parts.append(f"git {found.git_commit[:10]}{branch}{dirty}")
        for package in _FRAMEWORKS:
            if package in found.packages:
                parts.append(f"{package} {found.packages[package]}")
        parts.append(f"{len(found.packages)} packages" if found.packages else "")
    return printable(" · ".join(part for part in parts if part)) or "environment not known"


def delivery_line(account: Accounts, points: int) -> str:
    """``14,021 points stored, 0 dropped (emitted 14,040 = stored 14,040 + in journal 0 + dropped 0)``."""
    lost = sum(account.dropped.values())
    reasons = ", ".join(f"{count:,} {printable(reason)}" for reason, count in account.dropped.items())
    return (
        f"{points:,} points stored, {lost:,} dropped{f' ({reasons})' if reasons else ''}"
        f" · records: {account.emitted:,} emitted = {account.stored:,} stored"
        f" + {account.in_journal:,} in journal + {lost:,} dropped"
    )
