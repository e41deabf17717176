"""A run as one long table, read back by other programs."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from collector.recorded import START_NS, Recording, complete_run
from looptap_collector.backend import Backend
from looptap_collector.export import ALERT_COLUMNS, COLUMNS, default_file_name, export_run, export_to_stream
from looptap_collector.query import find_run

ODD = [0.1 + 0.2, math.nan, math.inf, -math.inf, -0.0, 5e-324]


@pytest.fixture
def odd(backend: Backend) -> Recording:
    recording = Recording(backend, "odd")
    recording.points("loss", ODD)
    recording.points("=cmd|'/c calc'!A1", [1.0], context={"group": "1"})
    return recording


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def test_parquet_is_exact(backend: Backend, odd: Recording, tmp_path: Path) -> None:
    """Parquet gives back every value to the last bit, with types, context and times in UTC to the nanosecond."""
    path = tmp_path / "odd.parquet"
    assert export_run(backend, find_run(backend, "odd"), "parquet", path) == len(ODD) + 1
    table = pd.read_parquet(path)
    assert tuple(table.columns) == COLUMNS
    loss = table[table["key"] == "loss"]
    assert [bits(value) for value in loss["value"]] == [bits(value) for value in ODD]
    assert loss["step"].tolist() == list(range(len(ODD)))
    assert loss["time"].astype("int64").tolist() == [START_NS + step * 1_000_000 for step in range(len(ODD))]
    assert str(loss["time"].dtype) == "datetime64[ns, UTC]"
    assert table[table["key"] != "loss"]["context"].tolist() == ['{"group": "1"}']


def test_many_series_share_row_groups(backend: Backend, tmp_path: Path) -> None:
    """Hundreds of short series do not make hundreds of row groups, and each row keeps its key."""
    recording = Recording(backend, "wide")
    for index in range(200):
        recording.points(f"m{index:03}", [float(index)])
    path = tmp_path / "wide.parquet"
    export_run(backend, find_run(backend, "wide"), "parquet", path)
    table = pd.read_parquet(path)
    assert table["key"].tolist() == [f"m{index:03}" for index in range(200)]
    assert table["value"].tolist() == [float(index) for index in range(200)]


def test_jsonl_is_json_on_every_line(backend: Backend, odd: Recording, tmp_path: Path) -> None:
    """Each line is valid JSON; floats are exact, and what JSON cannot say is a string."""
    path = tmp_path / "odd.jsonl"
    export_run(backend, find_run(backend, "odd"), "jsonl", path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    rows = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
    assert all(tuple(row) == COLUMNS for row in rows)
    loss = [row for row in rows if row["key"] == "loss"]
    assert [row["value"] for row in loss] == [0.1 + 0.2, "NaN", "Infinity", "-Infinity", 0.0, 5e-324]
    assert math.copysign(1, loss[4]["value"]) == -1
    assert loss[1]["time"] == "2026-01-02T03:04:05.001000000Z"
    assert rows[0]["context"] == {"group": "1"}


def test_csv_holds_no_formula(backend: Backend, odd: Recording, tmp_path: Path) -> None:
    """Text that a spreadsheet would run gets a quote in front; numbers stay numbers and are exact."""
    path = tmp_path / "odd.csv"
    export_run(backend, find_run(backend, "odd"), "csv", path)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert rows[0]["key"] == "'=cmd|'/c calc'!A1"
    assert [bits(float(row["value"])) for row in rows[1:]] == [bits(value) for value in ODD]
    table = pd.read_csv(path)
    assert table["value"].dtype == "float64"
    assert math.isinf(table["value"].iloc[3])


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_every_beginning_of_a_formula(backend: Backend, begin: str) -> None:
    """Each character that begins a formula is taken care of, in each column of text."""
    Recording(backend, "sheet", run=f"{begin}run").points(f"{begin}1", [-1.5])
    stream = io.BytesIO()
    export_to_stream(backend, find_run(backend, "latest"), "csv", stream)
    row = list(csv.reader(io.StringIO(stream.getvalue().decode(), newline="")))[1]
    assert row[0] == f"'{begin}run"
    assert row[1] == f"'{begin}1"
    assert row[5] == "-1.5"


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_a_run_without_points(backend: Backend, tmp_path: Path, file_format: str) -> None:
    """A run without a single point makes a table without rows, not an error."""
    Recording(backend, "empty")
    path = tmp_path / f"empty.{file_format}"
    assert export_run(backend, find_run(backend, "empty"), file_format, path) == 0
    assert path.exists()


@pytest.fixture
def alarmed(backend: Backend) -> Recording:
    recording = Recording(backend, "alarmed")
    recording.alert("not_finite", key="loss", value=math.nan, step=7, rank=1, message='=cmd "x", y')
    recording.alert("stall", "recovered", after_seconds=1.5, value=0.1 + 0.2, threshold=math.inf)
    return recording


def test_alerts_as_parquet(backend: Backend, alarmed: Recording, tmp_path: Path) -> None:
    """In order of time, each with its type; what an alert has not is missing, and NaN is NaN."""
    path = tmp_path / "alerts.parquet"
    assert export_run(backend, find_run(backend, "alarmed"), "parquet", path, "alerts") == 2
    table = pq.read_table(path)
    assert tuple(table.column_names) == ALERT_COLUMNS
    first, last = table.to_pylist()
    assert (first["kind"], first["state"], first["key"], first["step"], first["rank"]) == (
        *("not_finite", "fired", "loss"),
        *(7, 1),
    )
    assert math.isnan(first["value"])
    assert first["message"] == '=cmd "x", y'
    assert (last["value"], last["threshold"], last["step"], last["key"]) == (0.1 + 0.2, math.inf, None, None)
    assert (last["time"] - first["time"]).total_seconds() == 1.5
    assert first["run"] == last["run"] == find_run(backend, "alarmed").run


def test_alerts_as_json_lines(backend: Backend, alarmed: Recording) -> None:
    stream = io.BytesIO()
    assert export_to_stream(backend, find_run(backend, "alarmed"), "jsonl", stream, "alerts") == 2
    first, last = (json.loads(line) for line in stream.getvalue().splitlines())
    assert tuple(first) == ALERT_COLUMNS
    assert (first["time"], first["value"], first["threshold"]) == ("2026-01-02T03:04:05.000000000Z", "NaN", None)
    assert (last["value"], last["threshold"], last["rank"]) == (0.1 + 0.2, "Infinity", 0)


def test_alerts_as_csv(backend: Backend, alarmed: Recording) -> None:
    """No formula, exact numbers, nothing where there is nothing."""
    stream = io.BytesIO()
    export_to_stream(backend, find_run(backend, "alarmed"), "csv", stream, "alerts")
    head, first, last = csv.reader(io.StringIO(stream.getvalue().decode()))
    assert tuple(head) == ALERT_COLUMNS
    told = dict(zip(head, first, strict=True))
    assert (told["message"][:6], told["value"], told["threshold"], told["step"]) == ("'=cmd ", "nan", "", "7")
    assert float(dict(zip(head, last, strict=True))["value"]) == 0.1 + 0.2


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_a_run_without_alerts(backend: Backend, tmp_path: Path, file_format: str) -> None:
    Recording(backend, "calm")
    path = tmp_path / f"calm.{file_format}"
    assert export_run(backend, find_run(backend, "calm"), file_format, path, "alerts") == 0
    assert path.exists()


def test_a_failed_export_leaves_nothing(backend: Backend, tmp_path: Path) -> None:
    """Where the file cannot be put, no part of it stays behind, and the error names the file that was asked for."""
    complete_run(backend)
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(OSError, match="taken") as caught:
        export_run(backend, find_run(backend, "latest"), "csv", target)
    assert caught.value.filename == str(target)
    assert [item.name for item in tmp_path.iterdir() if "part" in item.name] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("calm-otter-12", "calm-otter-12.csv"),
        ("../../etc/passwd", "etc-passwd.csv"),
        ("C:\\x", "C-x.csv"),
        ("..", "run.csv"),
        ("é<b>", "b.csv"),
        ("a" * 5000, "a" * 100 + ".csv"),
    ],
)
def test_a_name_is_never_a_path(backend: Backend, name: str, expected: str) -> None:
    """The name of a run becomes a plain file name, whatever it holds."""
    Recording(backend, name, run="hostile")
    assert default_file_name(find_run(backend, "hostile"), "csv") == expected
