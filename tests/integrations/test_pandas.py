"""Files read with pandas are inputs, and what is no file of this machine is none."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

from integrations.recording import Recording, recorded
from looptap_integrations.pandas import PandasIntegration

TABLE = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(PandasIntegration) as recording:
        yield recording


@pytest.mark.parametrize(
    ("name", "write", "argument"),
    [
        ("read_csv", lambda path: TABLE.to_csv(path, index=False), "filepath_or_buffer"),
        ("read_parquet", lambda path: TABLE.to_parquet(path), "path"),
        ("read_json", lambda path: TABLE.to_json(path), "path_or_buf"),
        ("read_feather", lambda path: TABLE.to_feather(path), "path"),
    ],
)
def test_readers(record: Recording, tmp_path: Path, name: str, write: Callable[[Path], None], argument: str) -> None:
    """Given as text, as a path or by its name, the file is an input; the program gets its table."""
    path = tmp_path / "table"
    write(path)
    read: Any = getattr(pandas, name)
    for given in (str(path), path):
        pandas.testing.assert_frame_equal(read(given), TABLE)
    pandas.testing.assert_frame_equal(read(**{argument: path}), TABLE)
    assert record.files == [{"path": str(path), "role": "input", "kind": "dataset"}] * 3


def test_what_is_no_file(record: Recording, tmp_path: Path) -> None:
    """Text in memory, an open file, an address, a file that is not there: nothing is recorded, and errors are the program's."""
    path = tmp_path / "table.csv"
    TABLE.to_csv(path)
    pandas.read_csv(io.StringIO("a,b\n1,2\n"))
    with path.open() as file:
        pandas.read_csv(file)
    pandas.read_csv(f"file://{path}")
    with pytest.raises(FileNotFoundError):
        pandas.read_csv(tmp_path / "nothing.csv")
    with pytest.raises(TypeError):
        pandas.read_csv()  # type: ignore[call-overload]
    with record.suppress():
        pandas.read_csv(path)
    assert record.files == []


def test_home_folder(record: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pandas understands it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    TABLE.to_csv(tmp_path / "table.csv")
    pandas.read_csv("~/table.csv")
    assert [file["path"] for file in record.files] == [str(tmp_path / "table.csv")]


def test_imported_by_name_before(tmp_path: Path) -> None:
    """A program that holds the function from before us is not seen: that function is not replaced."""
    from pandas import read_csv as before

    path = tmp_path / "table.csv"
    TABLE.to_csv(path)
    with recorded(PandasIntegration) as recording:
        before(path)
        assert recording.files == []
        assert pandas.read_csv is not before
    assert pandas.read_csv is before


def test_tables(record: Recording) -> None:
    """By columns, types, rows and values at a few places; whatever the cells hold, none of their code runs."""
    found = record.describers.describe(TABLE)
    assert (found.kind, found.length, found.schema) == ("table", 3, {"a": "int64", "b": str(TABLE["b"].dtype)})
    assert record.describers.describe(TABLE.copy()).parts == found.parts
    for other in (
        TABLE.assign(a=[1, 2, 4]),
        TABLE.rename(columns={"a": "c"}),
        TABLE.iloc[:2],
        TABLE.astype({"a": float}),
    ):
        assert record.describers.describe(other).parts != found.parts

    class Cell:
        def __repr__(self) -> str:
            raise AssertionError

        def __hash__(self) -> int:
            raise AssertionError

    assert record.describers.describe(pandas.DataFrame({"x": [Cell(), Cell()]})).parts
    assert record.describers.describe(pandas.DataFrame()).length == 0
    assert record.describers.describe(pandas.DataFrame([[1, 2]], columns=["a", "a"])).details == {"columns": 2}
