"""Numbers that a device still owes us, and what is computed of them once they are here."""

from __future__ import annotations

from typing import TypeAlias


class Owed:
    """One number under way. Settled without a number, it is lost, and so is everything that rests on it."""

    __slots__ = ("is_settled", "number")

    def __init__(self) -> None:
        self.is_settled = False
        self.number: float | None = None

    def settle(self, number: float | None) -> None:
        self.number = number
        self.is_settled = True


class Quotient:
    __slots__ = ("_above", "_below")

    def __init__(self, above: Reading, below: Reading) -> None:
        self._above = above
        self._below = below

    @property
    def is_settled(self) -> bool:
        return self._above.is_settled and self._below.is_settled

    @property
    def number(self) -> float | None:
        above, below = self._above.number, self._below.number
        return None if above is None or not below else above / below


class Reading:
    """A sum of numbers some of which are under way; readings and floats add up, from left to right."""

    __slots__ = ("_parts",)

    def __init__(self, parts: tuple[Owed | Quotient | float, ...]) -> None:
        self._parts = parts

    @classmethod
    def of(cls, value: Reading | float) -> Reading:
        return value if isinstance(value, Reading) else cls((value,))

    def __add__(self, other: Reading | float) -> Reading:
        parts = self._parts
        if len(parts) > 1:
            parts = self._shortened()
        return Reading((*parts, *(other._parts if isinstance(other, Reading) else (other,))))

    def __radd__(self, other: float) -> Reading:
        return Reading((other, *self._parts))

    def __truediv__(self, other: Reading | float) -> Reading:
        return Reading((Quotient(self, Reading.of(other)),))

    @property
    def is_settled(self) -> bool:
        return all(isinstance(part, float) or part.is_settled for part in self._parts)

    @property
    def number(self) -> float | None:
        """The sum, in float64; None when a part of it was lost. Only once it is settled."""
        total: float | None = None
        for part in self._parts:
            number = part if isinstance(part, float) else part.number
            if number is None:
                return None
            total = number if total is None else total + number
        return total

    def _shortened(self) -> tuple[Owed | Quotient | float, ...]:
        """What is here already, as one number: an accumulation over thousands of passes stays short."""
        parts = self._parts
        total: float | None = None
        for index, part in enumerate(parts):
            number = part if isinstance(part, float) else part.number if part.is_settled else None
            if number is None:  # under way, or lost: then it stays, and the sum is lost with it
                return parts if index < 2 else (total or 0.0, *parts[index:])
            total = number if total is None else total + number
        return parts if total is None else (total,)


Scalar: TypeAlias = "float | Reading"
