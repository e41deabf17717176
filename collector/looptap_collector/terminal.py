"""Runs as text for a terminal: tables, a line of blocks for each series, small plots of dots.

What a store holds was written by somebody else's program. Before any of it reaches a terminal it loses its
escape sequences and control characters (:func:`printable`), and nothing of it is ever read as markup.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from looptap.events import Artifact, Dataset
from looptap_collector.backend import Backend, History, RunRow, SeriesRow
from looptap_collector.datasets import Compared, of_run
from looptap_collector.query import (
    Accounts,
    InJournal,
    accounts,
    duration_seconds,
    interest,
    is_chosen,
    is_loss,
    main_loss,
    series_labels,
)

STATUS_STYLES = {
    "running": "cyan",
    "finished": "green",
    "failed": "red",
    "killed": "yellow",
    "lost": "yellow",
}

#: More series than this are listed with their numbers only: each trend reads the points of its series.
TRENDS = 24
PLOTS = 3

#: A live agent is heard from much more often.
SILENCE_NS = 60 * 10**9

# CSI and the like, then the strings that run to BEL or ST (titles, clipboard, links), then any control
# character left.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` on one line, without anything that a terminal would obey: escapes, controls, changes of
    direction."""
    return _CONTROLS.sub("", _ESCAPES.sub("", re.sub(r"[\t\r\n]+", " ", text)))


def console(file: IO[str] | None = None) -> Console:
    """A console for this process. Into a pipe it writes wide and plain, so that nothing is cut."""
    stream = file if file is not None else sys.stdout
    piped = not stream.isatty()
    width = 160 if piped and "COLUMNS" not in os.environ else None
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def runs_table(rows: Sequence[RunRow], series: Sequence[SeriesRow], now_ns: int | None = None) -> Table:
    """One line for each run, newest first."""
    by_run: dict[str, list[SeriesRow]] = {}
    for item in series:
        by_run.setdefault(item.run, []).append(item)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("run", overflow="fold", min_width=16)
    table.add_column("status")
    table.add_column("started", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("last loss", justify="right", no_wrap=True)
    table.add_column("points", justify="right", no_wrap=True)
    table.add_column("script", overflow="ellipsis")
    for row in rows:
        own = by_run.get(row.run, [])
        loss = main_loss(own)
        table.add_row(
            Text(printable(row.name)),
            status_text(row),
            Text(local_time(row.started_ns, now_ns)),
            Text(took(duration_seconds(row))),
            Text(number(loss.last) if loss else "–"),
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

    params = backend.params(run.run)
    if params:
        table = _table("param", "value", "source")
        for param in sorted(params, key=lambda param: (not is_chosen(param.source), param.key)):
            table.add_row(Text(printable(param.key)), Text(setting(param.value)), Text(printable(param.source), "dim"))
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


def _show_metrics(out: Console, backend: Backend, run: RunRow) -> None:
    series = backend.series([run.run])
    if not series:
        out.print(Text("no metrics"))
        return
    labelled = sorted(zip(series_labels(series), series, strict=True), key=lambda pair: interest(pair[1]))
    histories = [backend.history(run.run, row.key, row.context) for _, row in labelled[:TRENDS]]
    table = _table("metric", "last", "min", "max", "points", "steps", "trend")
    for column in table.columns[1:6]:
        column.justify = "right"
        column.no_wrap = True
    for index, (label, row) in enumerate(labelled):
        points = f"{row.count:,}" + (f" ({row.nan_count:,} NaN)" if row.nan_count else "")
        table.add_row(
            Text(printable(label)),
            Text(number(row.last)),
            Text(number(row.min)),
            Text(number(row.max)),
            Text(points),
            Text(f"{row.first_step}–{row.last_step}"),
            Text(sparkline(histories[index].values) if index < len(histories) else "", style="cyan"),
        )
    out.print(table)
    changing = [
        (label, history)
        for (label, row), history in zip(labelled, histories, strict=False)
        if row.count > 2 and (is_loss(row.key) or row.min != row.max)
    ]
    for label, history in changing[:PLOTS]:
        out.print(Text(printable(label), style="bold"))
        for line in plot(history):
            out.print(Text(line, style="cyan"), no_wrap=True)


def artifacts_table(artifacts: Sequence[Artifact]) -> Table:
    """One line for each file of a run."""
    table = _table("file", "role", "step", "size", "sha256")
    table.columns[2].justify = table.columns[3].justify = "right"
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


def datasets_table(datasets: Sequence[Dataset], runs: Sequence[str] = ()) -> Table:
    """One line for each data set; with ``runs``, the name of the run that used it in front of each."""
    table = _table(*(["run"] if runs else []), "dataset", "role", "split", "length", "fingerprint", "of", "where")
    table.columns[3 + bool(runs)].justify = "right"
    for number, item in enumerate(datasets):
        table.add_row(
            *([Text(printable(runs[number]))] if runs else []),
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


def comparison_table(compared: Sequence[Compared]) -> Table:
    """One line for each data set of two runs."""
    table = _table("dataset", "role", "data", "first", "second", "differs in")
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


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def status_text(run: RunRow) -> Text:
    return Text(printable(run.status), style=STATUS_STYLES.get(run.status, ""))


def environment_line(run: RunRow) -> str:
    found = run.environment
    parts = [f"python {run.identity.python}" if run.identity.python else ""]
    if found is not None:
        parts.append(found.platform or "")
        if found.git_commit:
            dirty = ", uncommitted changes" if found.git_dirty else ""
            branch = f" on {found.git_branch}" if found.git_branch else ""
            parts.append(f"git {found.git_commit[:10]}{branch}{dirty}")
        for package in ("torch", "tensorflow", "keras", "jax"):
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


def number(value: float | None) -> str:
    """Six significant digits; a dash for none."""
    return "–" if value is None else f"{value:.6g}".replace("nan", "NaN").replace("inf", "Inf")


def setting(value: Any) -> str:
    """A param on one line, cut at 200 characters. Floats without the last digits of their arithmetic, which ``--json`` has."""
    if isinstance(value, float):
        value = f"{value:.12g}"
    text = printable(value if isinstance(value, str) else repr(value))
    return text if len(text) <= 200 else text[:199] + "…"


def size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def took(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def local_time(time_ns: int, now_ns: int | None = None) -> str:
    """Local time of day; the day goes before it unless it is today."""
    try:
        moment = datetime.fromtimestamp(time_ns / 1e9)
        today = datetime.fromtimestamp((now_ns if now_ns is not None else time.time_ns()) / 1e9).date()
    except (OverflowError, ValueError, OSError):
        return "unknown time"
    return f"{moment:%H:%M:%S} today" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M}"


_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: npt.NDArray[np.float64], width: int = 24) -> str:
    """The means of ``width`` equal stretches as blocks; ``·`` where a stretch has no finite value."""
    stretches = np.array_split(values, min(width, len(values))) if len(values) else []
    means = [float(part[np.isfinite(part)].mean()) if np.isfinite(part).any() else math.nan for part in stretches]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return "·" * len(means)
    low, span = min(finite), max(finite) - min(finite)
    if span <= 1e-12 * max(abs(low), abs(max(finite))):  # what is left of rounding in the means is no trend
        span = 0.0
    return "".join(
        "·" if not math.isfinite(mean) else _BLOCKS[round((mean - low) / span * 7) if 0 < span < math.inf else 3]
        for mean in means
    )


# The dots of a braille character: the bit for column 0 or 1 and row 0 to 3 (Unicode, block U+2800).
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def _stroke(cells: npt.NDArray[np.int64], column: int, row: int, other: int) -> None:
    for between in range(min(row, other), max(row, other) + 1):
        cells[between // 4, column // 2] |= _DOTS[column % 2][between % 4]


def plot(history: History, width: int = 64, height: int = 7) -> list[str]:
    """Value over step as lines of braille dots, two by four in each character, with scales.

    Each column of dots spans from the least to the greatest value of its stretch of steps, so no spike is
    lost. Values that are not finite are left out and counted below the plot.
    """
    finite = np.isfinite(history.values)
    values = history.values[finite]
    steps = history.steps[finite].astype(np.float64)
    skipped = int(len(history.values) - len(values))
    if not len(values):
        return [f"  all {skipped:,} values are NaN or infinite"]
    low, high = float(values.min()), float(values.max())
    first, last = float(steps[0]), float(steps[-1])
    columns = np.zeros(len(steps), np.int64)
    if last > first:
        columns = ((steps - first) / (last - first) * (2 * width - 1)).astype(np.int64)
    # Halved first: the difference of two huge floats overflows.
    span = high / 2 - low / 2
    share = (values / 2 - low / 2) / span if span > 0 else np.full(len(values), 0.5)
    rows = ((1 - share) * (4 * height - 1)).round().astype(np.int64)

    cells = np.zeros((height, width), np.int64)
    at, height_at = int(columns[0]), int(rows[0])
    for column in np.unique(columns).tolist():
        inside = rows[columns == column]
        # A straight line from the last point, joined up in every column that it crosses.
        start, rise = at, (int(inside[0]) - height_at) / max(1, column - at)
        origin = height_at
        for at in range(start + 1, column + 1):
            reached = round(origin + rise * (at - start))
            _stroke(cells, at, height_at, reached)
            height_at = reached
        _stroke(cells, column, int(inside.min()), int(inside.max()))
        height_at = int(inside[-1])
    scale = [number(high), *[""] * (height - 2), number(low)]
    margin = max(len(text) for text in scale)
    lines = [
        f"{text:>{margin}} ┤" + "".join(chr(0x2800 + int(cell)) for cell in line)
        for text, line in zip(scale, cells, strict=True)
    ]
    left, right = f"{int(history.steps[0])}", f"{int(history.steps[-1])}"
    note = f"   ({skipped:,} NaN or infinite)" if skipped else ""
    lines.append(" " * (margin + 2) + left + right.rjust(width - len(left)) + note)
    return lines
