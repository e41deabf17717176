"""Calls of a model that were kept as examples, with where each was made."""

from __future__ import annotations

from typing import Any

import msgspec

from looptap_collector.backend import Backend, WindowQuery, all_windows

#: So many are told at once, at most 40 MiB of them.
MOST = 10_000
_AT_ONCE = 500


class ExampleFields(msgspec.Struct, frozen=True, kw_only=True):
    """``journal`` tells the process (a replica); the others are those of :class:`looptap.events.Example` and of its window."""

    model: str
    version: str | None
    endpoint: str
    run: str
    journal: str
    time_ns: int
    asked: dict[str, Any]
    answer: Any
    error: str | None
    ids: tuple[str, ...]


class Examples(msgspec.Struct, frozen=True, kw_only=True):
    """Of windows that began at ``since_ns`` or later and before ``until_ns``, the latest call first. ``complete`` is false when
    there were more than are told, those of the latest windows."""

    model: str
    since_ns: int
    until_ns: int
    complete: bool
    examples: list[ExampleFields]


def examples(backend: Backend, model: str, *, since_ns: int, until_ns: int, version: str = "") -> Examples:
    """``version``: only of those that begin so."""
    found: list[ExampleFields] = []
    query = WindowQuery(models=(model,), since_ns=since_ns, until_ns=until_ns, limit=_AT_ONCE)
    for one in all_windows(backend, query):
        window = one.window
        if not (window.version or "unknown").startswith(version):
            continue
        found += [
            ExampleFields(
                model=window.model,
                version=window.version,
                endpoint=window.endpoint,
                run=one.run,
                journal=one.journal,
                time_ns=example.time_ns,
                asked=example.asked,
                answer=example.answer,
                error=example.error,
                ids=example.ids,
            )
            for example in window.examples
        ]
        if len(found) > MOST:
            break
    is_complete = len(found) <= MOST
    found = sorted(found[:MOST], key=lambda example: -example.time_ns)
    return Examples(model=model, since_ns=since_ns, until_ns=until_ns, complete=is_complete, examples=found)
