"""What an answer told beside what was asked."""

from __future__ import annotations

import threading
import time
from typing import Any

#: From the run to its last param, its tags and so on, a view takes not longer.
SECONDS = 30.0


class Aside:
    """Whoever looks at a run asks for its params, its tags, its series and so on, one after the other, and the answer to the
    first question has it all. The rest is laid aside here, each part for one question of the next moments: who asks
    again wants to know what is new."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def lay(self, run: str, parts: dict[str, Any]) -> None:
        now = time.monotonic()
        with self._lock:
            while self._parts and self._parts[oldest := next(iter(self._parts))][0] < now - SECONDS:
                del self._parts[oldest]
            for part, content in parts.items():
                self._parts.pop((run, part), None)
                self._parts[run, part] = (now, content)

    def take(self, run: str, part: str) -> Any:
        """None when there is nothing, or it is too old."""
        with self._lock:
            at, content = self._parts.pop((run, part), (0.0, None))
        return content if at >= time.monotonic() - SECONDS else None
