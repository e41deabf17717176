"""The profile of a run: its findings, and where the time of its steps went."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np

from looptap_collector.backend import Backend, RunRow
from looptap_collector.profiles.energy import cost_of, energy_of
from looptap_collector.profiles.evidence import Evidence, NotRecorded
from looptap_collector.profiles.rules import RULES
from looptap_collector.profiles.shapes import Finding, NotLookedAt, Phase, Profile
from looptap_collector.profiles.steps import PHASES, Steps
from looptap_collector.query import duration_seconds


@runtime_checkable
class Profiles(Protocol):
    """A backend that makes profiles itself: it is far away, and the points are there."""

    def profile(self, run: str, *, price_per_hour: float | None, grid_kg_per_kwh: float | None) -> Profile: ...


def profile_of(
    backend: Backend, run: RunRow, *, price_per_hour: float | None = None, grid_kg_per_kwh: float | None = None
) -> Profile:
    """Of a run that has ended or is under way. The price (of all that it had) and the CO₂e of its power are what is given, else
    what the run itself was told by the settings of these names; without either there is no cost, and no CO₂e."""
    if isinstance(backend, Profiles):
        return backend.profile(run.run, price_per_hour=price_per_hour, grid_kg_per_kwh=grid_kg_per_kwh)
    # Numbers that a program logged may be of any size.
    with np.errstate(all="ignore"):
        return _made(Evidence(backend, run), price_per_hour, grid_kg_per_kwh)


def _made(evidence: Evidence, price_per_hour: float | None, grid_kg_per_kwh: float | None) -> Profile:
    run = evidence.run
    findings: list[Finding] = []
    passed: list[str] = []
    missing: list[NotLookedAt] = []
    for rule in RULES:
        try:
            finding = rule.finding(evidence)
        except NotRecorded as error:
            missing.append(NotLookedAt(rule.title, str(error)))
            continue
        if finding is None:
            passed.append(rule.title)
        else:
            findings.append(finding)
    findings.sort(key=lambda finding: -finding.weight)
    steps = evidence.steps
    looked_at = max(map(len, steps), default=0)
    # Of optimizers that step one after the other each has its own steps.
    timed = max((row.count for row in evidence.series if row.key == "step_time"), default=0)
    return Profile(
        run=run.run,
        name=run.name,
        status=run.status,
        duration_seconds=duration_seconds(run),
        steps=max(timed, looked_at),
        steps_looked_at=looked_at,
        step_seconds=float(np.median(steps[0].seconds)) if steps else None,
        phases=tuple(_phases(steps)),
        findings=tuple(findings),
        passed=tuple(passed),
        not_looked_at=tuple(missing),
        energy=energy_of(evidence, grid_kg_per_kwh),
        cost=cost_of(evidence, price_per_hour),
    )


def _phases(ranks: list[Steps]) -> Iterable[Phase]:
    """Over all ranks that tell them, in the order in which a step comes upon them."""
    total = sum(float(steps.seconds.sum()) for steps in ranks)
    count = sum(map(len, ranks))
    for name in PHASES:
        seconds = [float(steps.phases[name].sum()) for steps in ranks if name in steps.phases]
        if seconds and total:
            yield Phase(name, sum(seconds) / count, sum(seconds) / total)
