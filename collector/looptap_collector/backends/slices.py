"""Long lists of names in pieces, for ``IN (…)``: engines bound the number of parameters of a statement."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

NAMES_AT_ONCE = 500

T = TypeVar("T")


def slices(names: Iterable[T], size: int = NAMES_AT_ONCE) -> Iterable[list[T]]:
    """Neighbours stay together, in their order; no piece is empty."""
    rest = iter(names)
    while some := list(islice(rest, size)):
        yield some
