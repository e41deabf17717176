"""What a value looks like on a terminal. What a store holds was written by somebody else's program: before any of it is shown it
loses its escape sequences and control characters (:func:`printable`)."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

# CSI and the like, then the strings that run to BEL or ST (titles, clipboard, links), then any control
# character left.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` on one line, without anything that a terminal would obey: escapes, controls, changes of
    direction."""
    return _CONTROLS.sub("", _ESCAPES.sub("", re.sub(r"[\t\r\n]+", " ", text)))


def number(value: float | None) -> str:
    """Six significant digits; a dash for none."""
    return "–" if value is None else f"{value:.6g}".replace("nan", "NaN").replace("inf", "Inf")


def setting(value: Any) -> str:
    """A param on one line, cut at 200 characters. Floats without the last digits of their arithmetic, which ``--json`` has."""
    if isinstance(value, float):
        value = f"{value:.12g}"
    text = printable(value if isinstance(value, str) else repr(value))
    return text if len(text) <= 200 else text[:199] + "…"


def size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def took(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def brief(seconds: float) -> str:
    """Of a step or a part of one, in the unit that fits."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def percent(share: float) -> str:
    """Of a share from 0 to 1, with two significant digits."""
    return f"{share * 100:.2g} %" if share < 0.995 else f"{share * 100:.4g} %"


def local_time(time_ns: int, now_ns: int | None = None) -> str:
    """Local time of day; the day goes before it unless it is today."""
    try:
        moment = datetime.fromtimestamp(time_ns / 1e9)
        today = datetime.fromtimestamp((now_ns if now_ns is not None else time.time_ns()) / 1e9).date()
    except (OverflowError, ValueError, OSError):
        return "unknown time"
    return f"{moment:%H:%M:%S} today" if moment.date() == today else f"{moment:%Y-%m-%d %H:%M}"
