"""Runs with times of steps and samples of resources, as an agent would have delivered them, for the tests of the profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from looptap.events import Artifact, Note, Param, RunEnded, SeriesPoints
from looptap_collector.backend import Backend
from looptap_collector.profiles.profile import profile_of
from looptap_collector.profiles.shapes import Finding, Profile
from looptap_collector.testing.batches import START_NS, Journal, started, write

SECOND = 10**9


class Training:
    """A run whose steps take ``step`` seconds each; samples are taken once a second from its start on."""

    def __init__(
        self,
        backend: Backend,
        *,
        steps: int = 200,
        step: float = 0.1,
        ranks: int = 1,
        status: str = "finished",
        error: str | None = None,
    ) -> None:
        self.backend = backend
        self.steps, self.step = steps, step
        self.journals = [Journal(f"j{rank}") for rank in range(ranks)]
        for rank, journal in enumerate(self.journals):
            write(backend, journal.batch(started(rank=rank, world_size=ranks)))
        if steps:
            self.phase("step_time", step)
        self.ended, self.error = status, error

    def phase(
        self,
        key: str,
        seconds: float | Sequence[float],
        rank: int = 0,
        *,
        ends: Sequence[float] | None = None,
        **context: str,
    ) -> None:
        """One value for each step, or the same for all; ``ends`` are the seconds from the start where steps are not all alike."""
        values = np.broadcast_to(np.asarray(seconds, "<f8"), (self.steps,))
        numbers = np.arange(self.steps)
        at = (numbers + 1) * self.step if ends is None else np.asarray(ends)
        times_ns = START_NS + (at * SECOND).astype("<i8")
        self._write(key, numbers, times_ns, values, rank, **context)

    def phases(self, rank: int = 0, **seconds: float) -> None:
        for name, each in seconds.items():
            self.phase(f"time.{name}", each, rank)

    def samples(
        self, key: str, values: float | Sequence[float], rank: int = 0, *, every: float = 1.0, **context: str
    ) -> None:
        """A value each second of the training, or the same for all of it."""
        if isinstance(values, int | float):
            values = [values] * (round(self.steps * self.step / every) + 1 if self.steps else 10)
        numbers = np.arange(len(values))
        times_ns = START_NS + (numbers * every * SECOND).astype("<i8")
        self._write(key, numbers, times_ns, np.asarray(values, "<f8"), rank, **context)

    def params(self, values: Mapping[str, Any]) -> None:
        self.deliver(*(Param(key, value, "torch", START_NS) for key, value in values.items()))

    def saved(self, *steps: int) -> None:
        self.deliver(*(Artifact(f"{step}.pt", START_NS, 10, digest=f"{step:064x}", step=step) for step in steps))

    def note(self, topic: str, message: str) -> None:
        self.deliver(Note(topic, message, START_NS))

    def deliver(self, *records: Any) -> None:
        write(self.backend, self.journals[0].batch(*records))

    def profile(self, **more: Any) -> Profile:
        if self.ended != "running":
            end_ns = START_NS + round(max(self.steps * self.step, 1) * SECOND)
            for rank, journal in enumerate(self.journals):
                write(self.backend, journal.batch(RunEnded(self.ended, end_ns, self.error, rank)))
            self.ended = "running"
        run = self.backend.run("r1")
        assert run is not None
        return profile_of(self.backend, run, **more)

    def finding(self, rule: str) -> Finding | None:
        """What this rule has found. Fails where it could not judge."""
        profile = self.profile()
        assert rule_title(rule) not in [one.title for one in profile.not_looked_at], profile.not_looked_at
        return next((finding for finding in profile.findings if finding.rule == rule), None)

    def missing(self, rule: str) -> str:
        """What this rule lacks to judge."""
        profile = self.profile()
        assert rule not in [finding.rule for finding in profile.findings]
        return next(one.missing for one in profile.not_looked_at if one.title == rule_title(rule))

    def _write(self, key: str, numbers: Any, times_ns: Any, values: Any, rank: int, **context: str) -> None:
        if rank:
            context["rank"] = str(rank)
        columns = [
            np.asarray(column, kind).tobytes()
            for column, kind in zip((numbers, times_ns, values), ("<i8", "<i8", "<f8"), strict=True)
        ]
        write(self.backend, self.journals[rank].batch(series=[SeriesPoints(key, context, *columns)]))


def rule_title(name: str) -> str:
    from looptap_collector.profiles.rules import RULES

    return next(rule.title for rule in RULES if rule.name == name)


def facts(finding: Finding | None) -> dict[str, float]:
    assert finding is not None
    return {fact.name: fact.value for fact in finding.facts}
