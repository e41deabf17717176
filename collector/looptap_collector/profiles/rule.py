"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from looptap_collector.profiles.evidence import Evidence
from looptap_collector.profiles.shapes import Fact, Finding


@dataclass(frozen=True)
class Found:
    """What a rule has found: in words, what to do, and on which numbers it stands. ``weight``: see
    :class:`~looptap_collector.profiles.shapes.Finding`."""

    says: str
    advice: str
    weight: float
    facts: tuple[Fact, ...] = field(default=())


Judge = Callable[[Evidence], Found | None]


@dataclass(frozen=True)
class Rule:
    """``needs`` are the series and params that it looks at, ``threshold`` from where on it speaks; both for people."""

    name: str
    title: str
    needs: str
    threshold: str
    judge: Judge

    def finding(self, evidence: Evidence) -> Finding | None:
        """Raises :class:`~looptap_collector.profiles.evidence.NotRecorded` where it cannot judge."""
        found = self.judge(evidence)
        if found is None:
            return None
        weight = min(1.0, max(0.0, found.weight))
        return Finding(self.name, self.title, found.says, found.advice, self.threshold, weight, found.facts)


def rule(title: str, *, needs: str, threshold: str) -> Callable[[Judge], Rule]:
    """Makes a rule of a function, with its name."""
    return lambda judge: Rule(judge.__name__, title, needs, threshold, judge)
