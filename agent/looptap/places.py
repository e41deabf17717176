"""Where in a program optimizers step, and whether two such places belong to one iteration or to two phases of the training.

A GAN steps two optimizers in one iteration, one of them perhaps several times in a loop of its own. A training in two phases (Adam,
then LBFGS) has a loop for each, or a loop and a single step. From the order of the steps alone both look alike; the code tells
them apart.
"""

from __future__ import annotations

import dis
from collections.abc import Sequence
from functools import lru_cache
from types import CodeType, FrameType
from typing import TypeAlias

#: Function and instruction of each call, from the outermost to the innermost.
Place: TypeAlias = tuple[tuple[CodeType, int], ...]


def place_of(frames: Sequence[FrameType]) -> Place:
    """Of frames from the nearest outwards."""
    return tuple((frame.f_code, frame.f_lasti) for frame in reversed(frames))


def are_two_phases(one: Place, other: Place) -> bool:
    """Whether each place is in a loop that the other is not in; or one of them is, and no loop is around both."""
    depth = 0
    for (code, here), (other_code, there) in zip(one, other, strict=False):
        if code is not other_code or here != there:
            break
        depth += 1
    if depth in (len(one), len(other)) or one[depth][0] is not other[depth][0]:
        return False  # one place, or one call that leads to either
    (code, here), (_, there) = one[depth], other[depth]
    is_around_both = any(_is_in_loop(place) for place in one[:depth]) or any(
        begin <= min(here, there) and max(here, there) <= end for begin, end in _loops(code)
    )
    alone = [
        any(begin <= its <= end and not begin <= others <= end for begin, end in _loops(code))
        or any(_is_in_loop(place) for place in inner)
        for its, others, inner in ((here, there, one[depth + 1 :]), (there, here, other[depth + 1 :]))
    ]
    return all(alone) or (any(alone) and not is_around_both)


def _is_in_loop(place: tuple[CodeType, int]) -> bool:
    code, instruction = place
    return any(begin <= instruction <= end for begin, end in _loops(code))


@lru_cache(maxsize=256)
def _loops(code: CodeType) -> list[tuple[int, int]]:
    """First and last instruction of each loop: every jump backwards closes one."""
    jumps = set(dis.hasjrel) | set(dis.hasjabs)
    return [
        (instruction.argval, instruction.offset)
        for instruction in dis.get_instructions(code)
        if instruction.opcode in jumps and instruction.argval <= instruction.offset
    ]
