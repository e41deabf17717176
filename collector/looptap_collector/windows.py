"""Windows of serving as a store has them: which of two counts, and which models were asked."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import msgspec

from looptap.events import Window
from looptap_collector.rows import RunWindow, Served


def supersedes(requests: int, known: float) -> bool:
    """Whether a window with so many requests takes the place of one with the same id that is known."""
    return requests >= known


def was_asked(window: Window) -> bool:
    """Whether any request ended or was under way in it; else it has only what came of earlier ones."""
    return bool(window.requests or window.in_flight_max or window.latency or window.predictions or window.features)


def window_order(one: RunWindow) -> tuple[int, str]:
    """The latest first, of the same time by their ids."""
    time_ns, id = one.place
    return -time_ns, id


def served(windows: Iterable[RunWindow]) -> list[Served]:
    """See :meth:`looptap_collector.backend.Backend.served`."""
    return added_up(
        Served(
            window.model,
            window.version,
            window.requests,
            sum(window.errors.values()),
            1,
            window.time_ns,
            window.time_ns,
        )
        for window in (one.window for one in windows)
        if window.requests
    )


def added_up(parts: Iterable[Served]) -> list[Served]:
    """One for each version of each model, in the order that a backend gives."""
    found: dict[tuple[str, str | None], Served] = {}
    for one in parts:
        which = (one.model, one.version)
        found[which] = one if (before := found.get(which)) is None else _together(before, one)
    return sorted(found.values(), key=served_order)


def served_order(one: Served) -> tuple[str, bool, str]:
    return one.model, one.version is not None, one.version or ""


def window_fields(one: RunWindow, *, plain: bool) -> dict[str, Any]:
    """``plain``: for JSON, with sketches in base64."""
    fields = {"run": one.run, "journal": one.journal, **msgspec.structs.asdict(one.window)}
    return {name: _as_text(value) for name, value in fields.items()} if plain else fields


def _as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _as_text(item) for name, item in value.items()}
    # Those of calls have only what JSON can say.
    return [msgspec.structs.asdict(item) for item in value] if isinstance(value, tuple) else value


def _together(one: Served, other: Served) -> Served:
    return Served(
        one.model,
        one.version,
        one.requests + other.requests,
        one.errors + other.errors,
        one.windows + other.windows,
        min(one.first_ns, other.first_ns),
        max(one.last_ns, other.last_ns),
    )
