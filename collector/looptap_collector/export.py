"""All points of a run as one long table, in a file that other programs read; or its alerts.

Columns: ``run`` (id), ``key``, ``context`` (a JSON object), ``step`` (int64), ``time`` (UTC, to the
nanosecond), ``value`` (float64, exact). One row per point, series after series, each in order of step.
Those of alerts are :data:`ALERT_COLUMNS`, in order of time.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from looptap_collector import alerts
from looptap_collector.backend import Backend, History, RunRow, SeriesRow
from looptap_collector.record import to_json

FORMATS = ("parquet", "csv", "jsonl")
WHAT = ("points", "alerts")
COLUMNS = ("run", "key", "context", "step", "time", "value")
ALERT_COLUMNS = ("run", "time", *(column for column in alerts.COLUMNS if column != "time_ns"))

#: Rows that go into one row group of a Parquet file; small series share one.
_ROW_GROUP = 131_072
#: A spreadsheet takes a cell that begins with one of these for a formula, and runs it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def default_file_name(run: RunRow, file_format: str, what: str = "points") -> str:
    """A file name made of the run's name, with nothing in it that a file system takes for a path."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", run.name)[:100].strip(".-") or "run"
    return f"{stem}.{file_format}" if what == "points" else f"{stem}.{what}.{file_format}"


def export_run(backend: Backend, run: RunRow, file_format: str, path: Path, what: str = "points") -> int:
    """Write the points of ``run``, or what else of :data:`WHAT`, to ``path`` and return their number. The file appears complete or
    not at all.

    Raises OSError when the file cannot be written, ModuleNotFoundError when Parquet is asked for without
    pyarrow.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            count = export_to_stream(backend, run, file_format, file, what)
        os.replace(partial, path)
    except OSError as error:
        error.filename = str(path)  # not the name that only exists meanwhile
        raise
    finally:
        partial.unlink(missing_ok=True)
    return count


def export_to_stream(backend: Backend, run: RunRow, file_format: str, stream: IO[bytes], what: str = "points") -> int:
    """The same to an open binary stream."""
    if what == "alerts":
        return _write_alerts(backend, run, file_format, stream)
    return _WRITERS[file_format](_histories(backend, run), run, stream)


_Histories = Iterator[tuple[SeriesRow, History]]


def _histories(backend: Backend, run: RunRow) -> _Histories:
    for row in backend.series([run.run]):
        yield row, backend.history(run.run, row.key, row.context)


def _context_text(row: SeriesRow) -> str:
    return json.dumps(dict(sorted(row.context.items()))) if row.context else ""


def _times(times_ns: Any) -> list[str]:
    moments = np.asarray(times_ns, np.int64).astype("datetime64[ns]")
    return [f"{text}Z" for text in np.datetime_as_string(moments, unit="ns").tolist()]


def _write_csv(histories: _Histories, run: RunRow, file: IO[bytes]) -> int:
    count = 0
    with _text(file) as text:
        table = csv.writer(text)
        table.writerow(COLUMNS)
        for row, history in histories:
            head = [_cell(run.run), _cell(row.key), _cell(_context_text(row))]
            points = zip(history.steps.tolist(), _times(history.times_ns), history.values.tolist(), strict=True)
            table.writerows([*head, step, time, repr(value)] for step, time, value in points)
            count += len(history.steps)
    return count


def _cell(text: str) -> str:
    """Text that a spreadsheet shows as text. Numbers do not pass through here: -1.5 stays a number."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _write_jsonl(histories: _Histories, run: RunRow, file: IO[bytes]) -> int:
    count = 0
    with _text(file) as text:
        for row, history in histories:
            head = to_json({"run": run.run, "key": row.key, "context": dict(row.context)})[:-1]
            for step, time, value in zip(
                history.steps.tolist(), _times(history.times_ns), history.values.tolist(), strict=True
            ):
                # The shortest text that reads back as the same float is valid JSON, save for what is not
                # finite.
                told = repr(value) if math.isfinite(value) else to_json(value)
                text.write(f'{head},"step":{step},"time":"{time}","value":{told}}}\n')
            count += len(history.steps)
    return count


def _write_parquet(histories: _Histories, run: RunRow, file: IO[bytes]) -> int:
    pa, pq = _arrow()
    label = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [
            ("run", label),
            ("key", label),
            ("context", label),
            ("step", pa.int64()),
            ("time", pa.timestamp("ns", tz="UTC")),
            ("value", pa.float64()),
        ]
    )

    def repeated(text: str, count: int) -> Any:
        indices = pa.array(np.zeros(count, np.int32))
        readable = text.encode("utf-8", "replace").decode("utf-8")  # Arrow takes no lone surrogates
        return pa.DictionaryArray.from_arrays(indices, pa.array([readable], pa.string()))

    count = 0
    waiting: list[Any] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:

        def write_waiting() -> None:
            if waiting:
                writer.write_table(pa.concat_tables(waiting).unify_dictionaries(), row_group_size=_ROW_GROUP)
                waiting.clear()

        rows = 0
        for row, history in histories:
            size = len(history.steps)
            columns = [
                repeated(run.run, size),
                repeated(row.key, size),
                repeated(_context_text(row), size),
                pa.array(history.steps),
                pa.array(history.times_ns).cast(schema.field("time").type),
                pa.array(history.values, from_pandas=False),
            ]
            waiting.append(pa.Table.from_arrays(columns, schema=schema))
            count += size
            rows += size
            if rows >= _ROW_GROUP:
                write_waiting()
                rows = 0
        write_waiting()
    return count


def _write_alerts(backend: Backend, run: RunRow, file_format: str, file: IO[bytes]) -> int:
    found = alerts.of_run(backend, run.run)
    times = _times([alert.time_ns for alert in found])
    rows = [
        {"run": run.run, "time": time, **alerts.alert_fields(alert)} for alert, time in zip(found, times, strict=True)
    ]
    if file_format == "parquet":
        pa, pq = _arrow()
        kinds = {"time": pa.timestamp("ns", tz="UTC"), "value": pa.float64(), "threshold": pa.float64()}
        kinds |= {"step": pa.int64(), "rank": pa.int64()}
        columns = [[row["time_ns" if name == "time" else name] for row in rows] for name in ALERT_COLUMNS]
        arrays = [
            pa.array(column, kinds.get(name, pa.string())) for name, column in zip(ALERT_COLUMNS, columns, strict=True)
        ]
        pq.write_table(pa.Table.from_arrays(arrays, names=ALERT_COLUMNS), file, compression="zstd")
        return len(rows)
    with _text(file) as text:
        if file_format == "jsonl":
            text.writelines(to_json({name: row[name] for name in ALERT_COLUMNS}) + "\n" for row in rows)
        else:
            table = csv.writer(text)
            table.writerow(ALERT_COLUMNS)
            cells = ((row[name] for name in ALERT_COLUMNS) for row in rows)
            table.writerows([_cell(cell) if isinstance(cell, str) else cell for cell in line] for line in cells)
    return len(rows)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Parquet needs {error.name}: pip install 'looptap[pandas]'", name=error.name
        ) from error
    return pa, pq


@contextmanager
def _text(file: IO[bytes]) -> Iterator[IO[str]]:
    """A UTF-8 text layer that leaves the stream below it open."""
    layer = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
    try:
        yield layer
        layer.flush()
    finally:
        layer.detach()


_WRITERS: dict[str, Callable[[_Histories, RunRow, IO[bytes]], int]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
}
