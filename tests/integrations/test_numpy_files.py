"""Files read with NumPy are inputs, and arrays are told by their shape and values at a few places."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from integrations.recording import Recording, recorded
from looptap_integrations.numpy_files import NumpyFilesIntegration

VALUES = numpy.arange(12.0).reshape(4, 3)


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(NumpyFilesIntegration) as recording:
        yield recording


def paths(record: Recording) -> list[str]:
    assert all((file["role"], file["kind"]) == ("input", "dataset") for file in record.files)
    return [Path(file["path"]).name for file in record.files]


def test_readers(record: Recording, tmp_path: Path) -> None:
    """Each of them, by position and by name; what they give is the program's."""
    numpy.save(tmp_path / "a.npy", VALUES)
    numpy.savez(tmp_path / "b.npz", x=VALUES)
    numpy.savetxt(tmp_path / "c.txt", VALUES)
    VALUES.tofile(tmp_path / "d.raw")
    assert (numpy.load(tmp_path / "a.npy") == VALUES).all()
    assert (numpy.load(file=str(tmp_path / "b.npz"))["x"] == VALUES).all()
    assert (numpy.loadtxt(tmp_path / "c.txt") == VALUES).all()
    assert (numpy.genfromtxt(fname=tmp_path / "c.txt") == VALUES).all()
    assert (numpy.fromfile(tmp_path / "d.raw").reshape(4, 3) == VALUES).all()
    assert paths(record) == ["a.npy", "b.npz", "c.txt", "c.txt", "d.raw"]


def test_maps(record: Recording, tmp_path: Path) -> None:
    """A file mapped to be read is an input, one that is made by it is none; the class stays the class."""
    VALUES.tofile(tmp_path / "d.raw")
    before = numpy.memmap
    mapped = numpy.memmap(tmp_path / "d.raw", dtype="f8", mode="r", shape=(4, 3))
    assert isinstance(mapped, before)
    assert (mapped == VALUES).all()
    numpy.memmap(tmp_path / "e.raw", mode="w+", shape=(2,))
    numpy.memmap(filename=tmp_path / "d.raw")
    numpy.save(tmp_path / "a.npy", VALUES)
    numpy.load(tmp_path / "a.npy", mmap_mode="r")
    assert paths(record)[:2] == ["d.raw", "d.raw"]
    assert set(paths(record)[2:]) == {"a.npy"}


def test_map_is_put_back() -> None:
    """The identical object."""
    before = vars(numpy.memmap)["__new__"]
    with recorded(NumpyFilesIntegration):
        assert vars(numpy.memmap)["__new__"] is not before
    assert vars(numpy.memmap)["__new__"] is before


def test_what_is_no_file(record: Recording, tmp_path: Path) -> None:
    """Memory, lines, an open file, nothing."""
    memory = io.BytesIO()
    numpy.save(memory, VALUES)
    memory.seek(0)
    numpy.load(memory)
    numpy.loadtxt(["1 2", "3 4"])
    numpy.save(tmp_path / "a.npy", VALUES)
    with (tmp_path / "a.npy").open("rb") as file:
        numpy.load(file)
    with pytest.raises(FileNotFoundError):
        numpy.load(tmp_path / "nothing.npy")
    assert record.files == []


def prints(record: Recording, array: Any) -> Any:
    return record.describers.describe(array).parts


def test_arrays(record: Recording) -> None:
    """The same however they lie in memory, others by any value that is looked at, by shape and by type."""
    expected = prints(record, VALUES)
    for same in (VALUES.copy(), numpy.asfortranarray(VALUES), numpy.repeat(VALUES, 2, axis=0)[::2]):
        assert prints(record, same) == expected
    for other in (VALUES + 1, VALUES.T, VALUES.astype("f4"), VALUES.astype(">f8"), VALUES[:3]):
        assert prints(record, other) != expected
    huge = numpy.broadcast_to(numpy.float64(1), (10**6, 10**6))
    assert len(prints(record, huge)) == 1
    assert record.describers.describe(huge).length == 10**6
    assert prints(record, numpy.ones(())) != []
    assert prints(record, numpy.ones((0, 3))) != []
    found = record.describers.describe(numpy.array([object()]))
    assert (found.parts, found.missing) == ([], "an array of objects is not looked into")
