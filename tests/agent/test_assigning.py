"""Names that values are going to have, told while the call is still running."""

from __future__ import annotations

import sys
from typing import Any

from looptap.assigning import Assigned, assigned_name

found: list[Assigned] = []


def f(*_: Any, **__: Any) -> Any:
    found.append(assigned_name(sys._getframe(1)))
    return Number(2.0)


class Number(float):
    def item(self) -> float:
        return float(self)

    def size(self, _: int) -> int:
        return 3


class Thing:
    total = 0.0
    other = 0.0


def told() -> list[tuple[str | None, bool]]:
    result = [(one.name, one.is_added) for one in found]
    found.clear()
    return result


def test_plain_assignments() -> None:
    """With conversions behind the call, over several lines, annotated, to an attribute."""
    thing = Thing()
    loss = f()
    number = f().item()
    weighted = f(
        1,
        2,
    ).item() * loss.size(0)
    typed: float = f(x=1)
    thing.other = f()
    assert (walrus := f()) == 2.0
    assert told() == [
        ("loss", False),
        ("number", False),
        ("weighted", False),
        ("typed", False),
        ("other", False),
        ("walrus", False),
    ]
    assert [number, weighted, typed, walrus] == [2.0, 6.0, 2.0, 2.0]


def test_sums() -> None:
    """What is added to a variable is told apart from what is assigned."""
    thing, total = Thing(), 0.0
    total += f().item()
    total += f().item() * f().size(0)
    thing.total += f()
    assert told() == [("total", True), ("total", True), ("total", True), ("total", True)]
    assert (total, thing.total) == (8.0, 2.0)


def test_nowhere() -> None:
    """No name where there is none, or more than one."""
    kept: list[float] = []
    kept.append(f())
    f()
    table = {"loss": f()}
    table["loss"] = f()
    first, second = f(), f()
    assert [name for name, _ in told()] == [None] * 6
    assert (first, second, len(kept), len(table)) == (2.0, 2.0, 1, 1)


def test_returned() -> None:
    """The caller's variable, where the function hands it on."""

    def inner() -> Any:
        return f()

    def outer() -> Any:
        return inner()

    value = outer()
    outer()
    assert told() == [("value", False), (None, False)]
    assert value == 2.0
