"""Texts, times and durations as they are written in a filter."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

from looptap_collector.filters.tree import FilterError

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", '"': '"', "'": "'"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)

_SECOND = 10**9
_UNITS = {"s": _SECOND, "m": 60 * _SECOND, "h": 3_600 * _SECOND, "d": 86_400 * _SECOND, "w": 7 * 86_400 * _SECOND}
_AGO = re.compile(r"-(\d{1,9})([smhdw])")
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([smhdw]) ?")
_MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)? ?(?:(Z)|([+-])(\d\d):?(\d\d))?)?",
    re.IGNORECASE,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_WORD = 1 << 63


def unquoted(text: str, position: int, whole: str = "filter") -> str:
    r"""What stands between the quotes, with ``\n \t \r \b \f \\ \" \'`` and ``\uXXXX`` resolved. Raises :class:`FilterError`."""

    def character(escape: re.Match[str]) -> str:
        code = escape[1]
        if code in _ESCAPES:
            return _ESCAPES[code]
        at = position + 1 + escape.start()
        if len(code) == 1:
            raise FilterError(rf"\{code} means nothing here; write \\ for a backslash", at, whole)
        found = chr(int(code[1:], 16))
        if found == "\0" or "\ud800" <= found <= "\udfff":
            raise FilterError(rf"\{code} is not a character that a text may hold", at, whole)
        return found

    return _ESCAPE.sub(character, text[1:-1])


def quoted(text: str) -> str:
    """The text as a literal of the language: :func:`unquoted` is its inverse."""
    return json.dumps(text, ensure_ascii=False)


def time_ns(text: str, now_ns: int, position: int) -> int:
    """Nanoseconds since 1970 of ``-7d`` (counted back from ``now_ns``) or of a moment in ISO 8601, in UTC unless it says
    otherwise. Times beyond what 64 bits hold are the first or last that they hold. Raises :class:`FilterError`."""
    if ago := _AGO.fullmatch(text):
        return within_64_bits(now_ns - int(ago[1]) * _UNITS[ago[2]])
    found = _MOMENT.fullmatch(text)
    if not found:
        raise FilterError(
            'a time is "2026-01-31", "2026-01-31T12:00:00+01:00" or, counted back from now, "-7d"', position
        )
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError as error:
        raise FilterError(f"there is no such time: {error}", position) from error
    whole = (moment - _EPOCH) // timedelta(seconds=1)
    if found[9]:
        offset = int(found[10]) * 3_600 + int(found[11]) * 60
        whole -= -offset if found[9] == "-" else offset
    return within_64_bits(whole * _SECOND + int((found[7] or "").ljust(9, "0")))


def duration_ns(text: str, position: int) -> int:
    """Nanoseconds of ``90s``, ``2h``, ``1h 30m``, ``1.5d``. Raises :class:`FilterError`."""
    total, at = 0, 0
    while span := _SPAN.match(text, at):
        total += round(float(span[1]) * _UNITS[span[2]])
        at = span.end()
    if at != len(text) or not text:
        raise FilterError('a duration is a number of seconds, or "90s", "2h", "1h 30m" (s, m, h, d, w)', position)
    return within_64_bits(total)


def within_64_bits(number: int) -> int:
    return max(-_WORD, min(_WORD - 1, number))
