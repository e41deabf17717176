"""A text or a number of a record within its bounds, or :class:`Rejected` in one line. ``field`` names the part of the record."""

from __future__ import annotations

from typing import Any, TypeGuard

from looptap.events import Rejected

NAME_BYTES = 512
ID_BYTES = 64
JOURNAL_BYTES = 255
_WORD = 1 << 63
_HEX = frozenset("0123456789abcdef")


def text(what: str, told: Any, longest: int, *, at_least: int = 1, field: str | None = None) -> None:
    """Sizes in bytes of UTF-8."""
    if not isinstance(told, str):
        raise Rejected(f"{what} is {type(told).__name__}, not text", field=field)
    try:
        size = len(told.encode())
    except UnicodeEncodeError as error:
        raise Rejected(f"{what} is not valid Unicode: {told[:80]!r}", field=field) from error
    if not at_least <= size <= longest:
        raise Rejected(f"{what} takes {size} bytes; {at_least} to {longest} are allowed: {told[:80]!r}", field=field)
    if "\0" in told:
        raise Rejected(f"{what} has a NUL character: {told[:80]!r}", field=field)


def whole(what: str, number: Any, *, at_least: int = -_WORD, field: str | None = None) -> None:
    if type(number) is not int or not at_least <= number < _WORD:
        raise Rejected(f"{what} is not a whole number from {at_least} to {_WORD - 1}", field=field or what)


def finite(what: str, number: Any, *, at_least: float, field: str) -> None:
    if type(number) is not float or not at_least <= number < float("inf"):
        raise Rejected(f"{what} is not a finite float from {at_least:g} on", field=field)


def is_sha256(digest: object) -> TypeGuard[str]:
    """In hex, as everything is named here."""
    return isinstance(digest, str) and len(digest) == 64 and _HEX.issuperset(digest)
