"""Where a request was asked: the template of its route, so that ten thousand paths are one endpoint."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

#: Of endpoints whose template nobody knows, so many are told apart.
MOST_PATHS = 50
OTHER = "other"
UNMATCHED = "unmatched"


def template(method: str, path: str, parameters: Mapping[str, Any], route: str | None) -> str:
    """``GET /items/{item_id}``: from the route where the framework tells it, else with what it read from the path put back."""
    if route is None:
        values = {str(value): name for name, value in parameters.items() if str(value)}
        route = "/".join(f"{{{values[part]}}}" if part in values else part for part in path.split("/"))
    return f"{method} {route}"[:200]


class Paths:
    """Paths that are told as they are, since no framework says which belong together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[str] = set()

    def told(self, method: str, path: str) -> str:
        name = f"{method} {path}"[:200]
        if name in self._known:
            return name
        with self._lock:
            if len(self._known) >= MOST_PATHS:
                return f"{method} {OTHER}"
            self._known.add(name)
        return name
