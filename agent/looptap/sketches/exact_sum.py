"""A sum of floats that does not depend on the order: sums of parts, merged in whatever way, are equal to the last bit.

The exact sum of finite float64 values is kept as an expansion: the float nearest to it, the float nearest to what that leaves out,
and so on until nothing is left. There is one such list for each number, however it was reached, and it is rarely longer than
three. :func:`math.fsum`, which rounds the exact sum of its arguments once, finds each term.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum, inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction


def exact_sum(values: Iterable[float]) -> tuple[float, ...]:
    """Of finite values; the terms of other sums may be among them. The greatest term first, nothing at all for zero.

    ``(inf,)`` or ``(-inf,)`` when the sum is beyond the range of a float; whatever is added to that does not change it.
    """
    left = list(values)
    if left and (max(left) == inf or min(left) == -inf):
        return (next(value for value in left if value in (inf, -inf)),)
    try:
        return _terms(left)
    except OverflowError:
        from fractions import Fraction  # so rare that the import of looptap has no time for it

        # A sum on the way was out of range; with fractions none is.
        return _terms_of_fraction(sum(map(Fraction, left), Fraction()))


def _terms(left: list[float]) -> tuple[float, ...]:
    terms: list[float] = []
    while term := fsum(left):
        terms.append(term)
        left.append(-term)
    return tuple(terms)


def _terms_of_fraction(left: Fraction) -> tuple[float, ...]:
    exact = type(left)
    terms: list[float] = []
    while left:
        try:
            terms.append(float(left))
        except OverflowError:
            return (inf if left > 0 else -inf,)
        left -= exact(terms[-1])
    return tuple(terms)
