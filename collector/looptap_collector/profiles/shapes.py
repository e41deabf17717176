"""What a profile is made of. The same in Python, as JSON and over HTTP."""

from __future__ import annotations

import msgspec

from looptap_collector.printable import brief, size, took


class Fact(msgspec.Struct, frozen=True):
    """A number that a finding stands on. ``unit``: ``percent``, ``seconds``, ``bytes``, ``bytes/s``, ``bytes/h``, ``count``,
    ``celsius``, ``hertz``, ``watts`` or ``joules``."""

    name: str
    value: float
    unit: str

    def said(self) -> str:
        return said(self.value, self.unit)


class Finding(msgspec.Struct, frozen=True):
    """``weight`` is the share of the time that it costs, from 0 to 1; of a danger to the run, how grave it is."""

    rule: str
    title: str
    says: str
    advice: str
    threshold: str
    weight: float
    facts: tuple[Fact, ...]


class Phase(msgspec.Struct, frozen=True):
    """A part of the step: its ``seconds`` in the mean step, and its ``share`` of it, from 0 to 1."""

    name: str
    seconds: float
    share: float


class NotLookedAt(msgspec.Struct, frozen=True):
    """What could not be judged, and what is missing for it."""

    title: str
    missing: str


class Energy(msgspec.Struct, frozen=True):
    """``joules`` of the whole run. ``of`` are its parts, by what was measured: ``GPU 0``, ``CPU``. What cannot be told is None;
    ``co2e_kg`` is for a kWh of ``grid_kg_per_kwh``, which somebody has to tell."""

    joules: float
    kwh: float
    of: dict[str, float]
    joules_per_step: float | None = None
    joules_per_sample: float | None = None
    co2e_kg: float | None = None
    grid_kg_per_kwh: float | None = None


class Cost(msgspec.Struct, frozen=True):
    """``price_per_hour`` is of all that the run had, in the user's currency."""

    hours: float
    price_per_hour: float
    total: float


class Profile(msgspec.Struct, frozen=True):
    """Of one run. ``steps`` is how many were timed, ``steps_looked_at`` of how many the numbers are, ``step_seconds`` the median
    one. ``findings`` come worst first; ``passed`` are the titles of what was looked at and is well."""

    run: str
    name: str
    status: str
    duration_seconds: float
    steps: int
    steps_looked_at: int
    step_seconds: float | None
    phases: tuple[Phase, ...]
    findings: tuple[Finding, ...]
    passed: tuple[str, ...]
    not_looked_at: tuple[NotLookedAt, ...]
    energy: Energy | None = None
    cost: Cost | None = None


_JOULES = ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"))


def percent(share: float) -> str:
    """Of a share from 0 to 1; small ones with a decimal."""
    value = 100 * share
    return f"{value:.1f} %" if 0 < abs(value) < 2 else f"{value:.0f} %"


def said(value: float, unit: str) -> str:
    """A number as people say it."""
    if unit == "percent":
        return percent(value / 100)
    if unit == "seconds":
        return took(value) if value >= 60 else brief(value)
    if unit.startswith("bytes"):
        per = unit.removeprefix("bytes")
        return ("−" if value < 0 else "") + size(round(abs(value))) + per
    if unit == "joules":
        return next((f"{value / size:.3g} {name}" for size, name in _JOULES if value >= size), f"{value * 1000:.3g} mJ")
    if unit == "hertz":
        return f"{value / 1e6:,.0f} MHz"
    if unit in ("celsius", "watts"):
        return f"{value:.0f} {'°C' if unit == 'celsius' else 'W'}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"
