"""How an alert is raised once, and only again after what was wrong has clearly been right."""

from __future__ import annotations

from typing import NamedTuple

FIRED, RECOVERED = "fired", "recovered"
WARNING, CRITICAL = "warning", "critical"


class Change(NamedTuple):
    """A rule has found that something is wrong (fired), or that it no longer is (recovered)."""

    kind: str
    severity: str
    state: str
    message: str
    key: str | None = None
    value: float | None = None
    threshold: float | None = None
    step: int | None = None


class Latch:
    """Stands once what is wrong has lasted ``hold`` seconds, and no longer once what is right has lasted ``clear`` seconds. What is
    neither changes nothing, so a value that moves about a threshold raises one alert."""

    def __init__(self, hold: float = 0.0, clear: float = 0.0) -> None:
        self.stands = False
        self._hold = hold
        self._clear = clear
        self._since: float | None = None

    def see(self, time: float, *, is_wrong: bool, is_right: bool) -> str | None:
        """At this time (seconds). Whether it has FIRED or RECOVERED by that; None when all is as it was."""
        is_turning = is_right if self.stands else is_wrong
        if not is_turning:
            self._since = None
            return None
        if self._since is None:
            self._since = time
        if time - self._since < (self._clear if self.stands else self._hold):
            return None
        self._since = None
        self.stands = not self.stands
        return FIRED if self.stands else RECOVERED

    def lost_sight(self) -> None:
        """Nobody knows what was between the last time and the next one."""
        self._since = None
