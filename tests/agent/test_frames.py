"""Looking at a program's variables: they are found, and the program does not notice."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import pytest

from looptap.frames import local_variables, outward, variables_in_reach


class Thing:
    pass


def reach(depth: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in variables_in_reach(sys._getframe(depth)):
        found.setdefault(name, value)
    return found


def test_locals_globals_attributes_and_dicts_are_in_reach() -> None:
    """Nearest first, and one level deep into objects, dicts and lists."""
    holder, losses, items = Thing(), {"cls": 1.5}, [2.5]
    holder.loss_G = 3.5  # type: ignore[attr-defined]
    found = reach()
    assert found["holder"] is holder
    assert found["Thing"] is Thing
    assert (found["cls"], found["items.0"], found["loss_G"]) == (1.5, 2.5, 3.5)
    assert losses
    assert items


def test_objects_die_when_the_program_drops_them() -> None:
    """Reading the locals keeps no object alive, although the function goes on running."""

    def program() -> bool:
        thing = Thing()
        reference = weakref.ref(thing)
        found = local_variables(sys._getframe())["thing"] is thing
        del thing
        gc.collect()
        return found and reference() is None

    assert program()


@pytest.mark.parametrize("take", ["locals()", "vars()"])
def test_an_earlier_snapshot_is_not_changed(take: str) -> None:
    """``config = locals()`` holds what it held, whatever we read later."""
    space: dict[str, Any] = {"read": lambda: dict(local_variables(sys._getframe(1)))}
    exec(f"def program(lr=0.1):\n    config = {take}\n    later = 1\n    read()\n    return config", space)
    assert space["program"]() == {"lr": 0.1}


def test_vars_of_an_object_is_no_snapshot() -> None:
    """``vars(args)`` does not keep us from finding a function's locals."""
    space: dict[str, Any] = {"read": lambda: dict(local_variables(sys._getframe(1))), "thing": Thing()}
    exec("def program():\n    options = vars(thing)\n    loss = 1\n    return read()", space)
    assert space["program"]()["loss"] == 1


def test_looking_runs_no_code_of_the_program() -> None:
    """Properties, proxies and ``__getattr__`` are left alone."""

    class Touchy:
        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise AssertionError("looked")

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    touchy = Touchy()
    assert reach()["touchy"] is touchy


def test_outward_goes_to_the_callers() -> None:
    """The frame itself comes first, then its caller."""

    def inner() -> list[str]:
        return [frame.f_code.co_name for frame in outward(sys._getframe())]

    assert inner()[:2] == ["inner", "test_outward_goes_to_the_callers"]
