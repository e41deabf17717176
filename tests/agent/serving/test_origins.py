"""Which file an object came from."""

from __future__ import annotations

import gc
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from looptap.serving.origins import Origins, digest


@pytest.fixture
def origins(tmp_path: Path) -> Origins:
    for name in ("one", "other"):
        (tmp_path / name).write_text(name)
    return Origins()


def test_parts_of_what_was_loaded(origins: Origins, tmp_path: Path) -> None:
    """Whatever they lie in."""
    first, second, third = (np.zeros(2) for _ in range(3))
    origins.loaded({"model": {"weights": [first, (second,)]}, "epoch": 3}, tmp_path / "one")
    file = origins.of(second)
    assert file is not None
    assert (file.name, file.size_bytes, file.role) == ("one", 3, "input")
    assert digest(file) == hashlib.sha256(b"one").hexdigest()
    assert origins.of(third) is None
    assert origins.of_all([first, second]) is file
    assert origins.of_all([first, third]) is None
    assert origins.of_all([]) is None


def test_arrays_of_two_files_came_from_none(origins: Origins, tmp_path: Path) -> None:
    first, second = np.zeros(2), np.zeros(2)
    origins.loaded([first], tmp_path / "one")
    origins.loaded([second], tmp_path / "other")
    assert origins.of_all([first, second]) is None
    assert origins.of_all([second]) is not None


def test_nothing_is_kept_alive_or_taken_for_another(origins: Origins, tmp_path: Path) -> None:
    array = np.zeros(2)
    origins.loaded(array, tmp_path / "one")
    assert len(origins._files) == 1
    del array
    gc.collect()
    assert origins._files == {}


def test_a_file_that_has_changed_has_no_digest(origins: Origins, tmp_path: Path) -> None:
    array, path = np.zeros(2), tmp_path / "one"
    origins.loaded(array, path)
    file = origins.of(array)
    assert file is not None
    path.write_text("longer")
    os.utime(path, ns=(1, 1))
    assert digest(file) is None


def test_what_is_no_file_is_no_origin(origins: Origins, tmp_path: Path) -> None:
    array = np.zeros(2)
    for path in (tmp_path / "nowhere", 3.5, None, "with\0nul"):
        origins.loaded(array, path)
    assert origins.of(array) is None
