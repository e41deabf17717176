"""The line between the training run and us: nothing that goes wrong in our code crosses it.

A :class:`Guard` belongs to one observer. It swallows what that observer raises, counts it, keeps the last error for
``looptap doctor``, and after three failures closes: the observer is not called again. It catches ``Exception`` only, so
Ctrl-C and ``SystemExit`` always pass. With ``LOOPTAP_STRICT=1`` (our tests) it swallows nothing.
"""

from __future__ import annotations

import os
from types import TracebackType

FAILURES_TO_CLOSE = 3


def is_strict() -> bool:
    return os.environ.get("LOOPTAP_STRICT", "") not in ("", "0")


class Guard:
    """``with guard:`` around our own code, never around the user's call."""

    __slots__ = ("closed", "failures", "last_error", "name", "strict")

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False
        self.failures = 0
        self.last_error: str | None = None
        self.strict = is_strict()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if exc is None or not isinstance(exc, Exception) or self.strict:
            return False
        self.failed(exc)
        return True

    def failed(self, error: Exception) -> None:
        """Count one failure. Keeps text, not the exception: its traceback would keep the user's tensors alive."""
        self.failures += 1
        self.last_error = _describe(error)
        if self.failures >= FAILURES_TO_CLOSE:
            self.closed = True


def _describe(error: Exception) -> str:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = ""
    if place is not None:
        where = f" ({os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno})"
    try:
        return f"{type(error).__name__}: {error}"[:500] + where
    except Exception as unprintable:  # noqa: BLE001 - the error's own __str__ may raise
        return f"{type(error).__name__} (unprintable: {type(unprintable).__name__}){where}"
