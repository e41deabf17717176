"""One iteration or two phases: programs of every shape that steps two optimizers, told by where they call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from looptap.places import Place, are_two_phases, place_of


def shape(program: Callable[[Callable[[str], None]], None]) -> bool:
    """Run it, and tell whether the first place where it steps "b" is of another phase than the last one of "a" before it."""
    places: dict[str, Place] = {}
    found: list[bool] = []

    def step(name: str) -> None:
        frame: FrameType | None = sys._getframe(1)
        frames = []
        while frame is not None and frame.f_code is not shape.__code__:
            frames.append(frame)
            frame = frame.f_back
        places[name] = place_of(frames)
        if name == "b" and not found:
            found.append(are_two_phases(places["a"], places["b"]))

    program(step)
    return found[0]


def loop(step: Callable[[str], None], name: str) -> None:
    for _ in range(3):
        step(name)


def both(step: Callable[[str], None]) -> None:
    step("a")
    step("b")


def critic(step: Callable[[str], None]) -> None:
    for _ in range(3):
        step("a")
    step("b")


def gan(step: Callable[[str], None]) -> None:
    for _ in range(2):
        step("a")
        step("b")


def gan_in_a_function(step: Callable[[str], None]) -> None:
    for _ in range(2):
        both(step)


def gan_with_critic(step: Callable[[str], None]) -> None:
    for _ in range(2):
        for _ in range(3):
            step("a")
        step("b")


def gan_with_critic_in_a_function(step: Callable[[str], None]) -> None:
    count = 0
    while count < 2:
        critic(step)
        count += 1


def one_after_the_other(step: Callable[[str], None]) -> None:
    both(step)


def list_of_optimizers(step: Callable[[str], None]) -> None:
    for name in ("a", "b"):
        step(name)


def two_loops(step: Callable[[str], None]) -> None:
    for _ in range(3):
        step("a")
    for _ in range(3):
        step("b")


def two_loops_in_functions(step: Callable[[str], None]) -> None:
    loop(step, "a")
    loop(step, "b")


def two_loops_in_every_epoch(step: Callable[[str], None]) -> None:
    for _ in range(2):
        for _ in range(3):
            step("a")
        for _ in range(3):
            step("b")


def loop_and_single_step(step: Callable[[str], None]) -> None:
    loop(step, "a")
    step("b")


def while_loop_and_single_step(step: Callable[[str], None]) -> None:
    count = 0
    while True:
        step("a")
        count += 1
        if count > 3:
            break
    step("b")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (gan, False),
        (gan_in_a_function, False),
        (gan_with_critic, False),
        (gan_with_critic_in_a_function, False),
        (one_after_the_other, False),
        (list_of_optimizers, False),
        (two_loops, True),
        (two_loops_in_functions, True),
        (two_loops_in_every_epoch, True),
        (loop_and_single_step, True),
        (while_loop_and_single_step, True),
    ],
)
def test_shapes(program: Callable[[Callable[[str], None]], None], expected: bool) -> None:
    """Each shape is told for what it is."""
    assert shape(program) is expected
