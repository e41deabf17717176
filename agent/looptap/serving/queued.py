"""How long a request had waited before it reached the program, where a proxy in front of it says when it came: in the header
``X-Request-Start`` (nginx, Heroku, Passenger) or ``X-Queue-Start``, as seconds, milliseconds or microseconds since 1970, with or
without ``t=``."""

from __future__ import annotations

import time
from collections.abc import Iterable

_HEADERS = (b"x-request-start", b"x-queue-start")
#: A longer wait is a clock that is wrong.
_LONGEST_NS = 600 * 10**9


def queued_ns(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Nanoseconds; 0 where nobody says it."""
    for name, value in headers:
        if name in _HEADERS:
            return since(value.decode("latin-1"))
    return 0


def since(told: str) -> int:
    try:
        at = float(told.strip().removeprefix("t="))
    except ValueError:
        return 0
    for unit in (1.0, 1e3, 1e6):
        # What is a time of this century in one unit is none in the others.
        if 1e9 <= at / unit < 1e10:
            waited = time.time_ns() - int(at / unit * 1e9)
            return waited if 0 < waited < _LONGEST_NS else 0
    return 0
