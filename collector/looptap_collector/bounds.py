"""A text or a number of a record within its bounds, or :class:`Rejected` in one line. ``field`` names the part of the record."""

from __future__ import annotations

from typing import Any, TypeGuard

from looptap.events import Rejected

NAME_BYTES = 512
ID_BYTES = 64
JOURNAL_BYTES = 255
VALUE_BYTES = 65_536
VALUE_DEPTH = 16
INTEGER_BITS = 4_096
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


def plain(what: str, value: Any) -> None:
    """None, a bool, a number, a text, or lists and dicts of these."""
    _plain(what, value, VALUE_DEPTH, VALUE_BYTES)


def is_sha256(digest: object) -> TypeGuard[str]:
    """In hex, as everything is named here."""
    return isinstance(digest, str) and len(digest) == 64 and _HEX.issuperset(digest)


def _plain(what: str, value: Any, depth: int, room: int) -> int:
    """What is left of ``room`` (in bytes) after the value."""
    if isinstance(value, str):
        # JSON escapes a NUL, so it harms nobody here.
        text(what, value.replace("\0", " "), VALUE_BYTES, at_least=0)
        room -= len(value.encode())
    elif isinstance(value, int):
        # Python refuses to write out integers of more than 4,300 digits.
        if value.bit_length() > INTEGER_BITS:
            raise Rejected(f"{what} has an integer of more than {INTEGER_BITS} bits")
        room -= value.bit_length() // 3
    elif isinstance(value, (list, tuple, dict)):
        if depth == 0:
            raise Rejected(f"the value of {what} is nested more than {VALUE_DEPTH} deep")
        for item in value:
            if isinstance(value, dict):
                text(f"a name inside {what}", item, NAME_BYTES, at_least=0)
                room = _plain(what, value[item], depth - 1, room - len(item))
            else:
                room = _plain(what, item, depth - 1, room)
    elif value is not None and not isinstance(value, float):
        raise Rejected(
            f"the value of {what} holds a {type(value).__name__}; it must be None, bool, int, float, "
            "str, or a list or dict of these"
        )
    room -= 1
    if room < 0:
        raise Rejected(f"the value of {what} is longer than {VALUE_BYTES} bytes")
    return room
