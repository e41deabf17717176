"""CUDA_VISIBLE_DEVICES as CUDA reads it."""

from __future__ import annotations

import pytest

from looptap.resources.visible import Gpu, Place, names_one, visible

GPUS = [
    Gpu("GPU-aa11"),
    Gpu("GPU-aa22"),
    Gpu("GPU-bb33", ("MIG-cc44", "MIG-dd55")),
    Gpu("GPU-ee66", ("MIG-GPU-ee66/1/0",)),
]
ALL = [Place(0), Place(1), Place(2, 0), Place(2, 1), Place(3, 0)]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, ALL),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", [Place(1)]),
        ("1,0", [Place(1), Place(0)]),
        (" 1 , 0 ", [Place(1), Place(0)]),
        ("0,9,1", [Place(0)]),
        ("0,-1,1", [Place(0)]),
        ("0,0", []),
        ("GPU-aa22,0", [Place(1), Place(0)]),
        ("GPU-bb", [Place(2, 0), Place(2, 1)]),
        ("GPU-aa", []),
        ("GPU-zz", []),
        ("MIG-dd55,MIG-cc44", [Place(2, 1), Place(2, 0)]),
        ("MIG-dd", [Place(2, 1)]),
        ("MIG-GPU-ee66/1/0", [Place(3, 0)]),
        ("MIG-GPU-ee66/7/0", []),
        ("2,MIG-cc44", []),
        ("²", []),
    ],
)
def test_visible(variable: str | None, expected: list[Place]) -> None:
    """In the program's order; nothing behind the first that there is not, nothing at all where one is named twice."""
    assert visible(variable, GPUS) == expected


def test_no_gpus() -> None:
    """A driver without devices."""
    assert visible(None, []) == visible("0", []) == []


@pytest.mark.parametrize(
    ("variable", "is_one"), [(None, False), ("", False), ("-1", False), ("0", True), ("0,1", False), ("GPU-aa", True)]
)
def test_one_of_its_own(variable: str | None, is_one: bool) -> None:
    """Launchers give a rank its own GPU by naming one."""
    assert names_one(variable) == is_one
