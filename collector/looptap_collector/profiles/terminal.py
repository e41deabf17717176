"""A profile on a terminal: a picture of the step, then the findings, worst first.

What comes from a store goes through :mod:`looptap_collector.printable`.
"""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from looptap_collector.printable import brief, printable, took
from looptap_collector.profiles.shapes import Finding, Phase, Profile, percent, said

#: Of the phases of a step, in the order of :data:`looptap_collector.profiles.steps.PHASES`; the page has the same.
COLOURS = {
    "data": "yellow",
    "transfer": "magenta",
    "forward": "cyan",
    "backward": "blue",
    "optimizer": "green",
    "train": "blue",
    "other": "bright_black",
}
_BAR = 40
_GRAVE, _SERIOUS = 0.5, 0.2


def show_profile(out: Console, profile: Profile) -> None:
    from looptap_collector.terminal import STATUS_STYLES

    name = Text(printable(profile.name), style="bold")
    out.print(name, Text(printable(profile.status), style=STATUS_STYLES.get(profile.status, "")))
    out.print(Text(" · ".join(_facts(profile))))
    if profile.phases:
        out.print(_picture(profile.phases))
    if not profile.findings:
        out.print(Text("\nNothing was found that held this run back.", style="green" if profile.passed else ""))
    for number, finding in enumerate(profile.findings, 1):
        _show_finding(out, number, finding)
    _show_rest(out, profile)


def _facts(profile: Profile) -> list[str]:
    facts = [f"{'running for' if profile.status == 'running' else 'took'} {took(profile.duration_seconds)}"]
    if profile.step_seconds is not None:
        facts.append(
            f"{profile.steps:,} {'step' if profile.steps == 1 else 'steps'} timed, the median one {brief(profile.step_seconds)}"
        )
        if profile.steps_looked_at < profile.steps / 2:
            facts.append(f"looked at {profile.steps_looked_at:,} of them from all over the run")
        if profile.phases:
            facts.append("below, the mean one")
    else:
        facts.append("no times of steps")
    return facts


def _picture(phases: tuple[Phase, ...]) -> Padding:
    """A bar for each part of the step, behind those before it."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for justify in ("left", "left", "right", "right"):
        table.add_column(justify=justify, no_wrap=True)
    start = 0.0
    for phase in phases:
        first, behind = round(start * _BAR), round((start + phase.share) * _BAR)
        start += phase.share
        # Whatever took time is seen, however little it was.
        length = max(behind - first, 1 if phase.seconds > 0 else 0)
        bar = Text("·" * min(first, _BAR - length), style="bright_black")
        bar.append("█" * length, style=COLOURS[phase.name])
        bar.append("·" * (_BAR - len(bar)), style="bright_black")
        table.add_row(Text(phase.name), bar, Text(percent(phase.share)), Text(brief(phase.seconds), style="dim"))
    return Padding(table, (1, 0, 0, 0), expand=False)


def _show_finding(out: Console, number: int, finding: Finding) -> None:
    style = "bold red" if finding.weight >= _GRAVE else "bold yellow" if finding.weight >= _SERIOUS else "bold"
    out.print()
    out.print(Text(f"{number}. {finding.title}", style=style))
    out.print(Padding(Text(printable(finding.says)), (0, 0, 0, 3), expand=False))
    out.print(Padding(Text(f"→ {printable(finding.advice)}", style="green"), (0, 0, 0, 3), expand=False))
    told = [f"{printable(fact.name)} {fact.said()}" for fact in finding.facts]
    facts = " · ".join([*told, f"threshold: {finding.threshold}"])
    out.print(Padding(Text(facts, style="dim"), (0, 0, 0, 3), expand=False))


def _show_rest(out: Console, profile: Profile) -> None:
    out.print()
    for line in (energy_line(profile), cost_line(profile)):
        if line:
            out.print(Text(line))
    if profile.passed:
        out.print(Text(f"looked at, and well: {' · '.join(profile.passed)}"))
    by_missing: dict[str, list[str]] = {}
    for one in profile.not_looked_at:
        by_missing.setdefault(one.missing, []).append(one.title)
    if by_missing:
        told = "; ".join(f"{', '.join(titles)} (needs {printable(missing)})" for missing, titles in by_missing.items())
        out.print(Text(f"not looked at, since it was not recorded: {told}", style="dim"))


def energy_line(profile: Profile) -> str | None:
    """``energy  1.25 MJ (0.347 kWh) · GPU 0 1.1 MJ · CPU 150 kJ · 12 J a step · 0.19 J a sample · …``"""
    energy = profile.energy
    if energy is None:
        return None
    facts = [f"energy  {said(energy.joules, 'joules')} ({energy.kwh:.3g} kWh)"]
    facts += [f"{name} {said(joules, 'joules')}" for name, joules in energy.of.items()]
    for each, of in ((energy.joules_per_step, "step"), (energy.joules_per_sample, "sample")):
        if each is not None:
            facts.append(f"{said(each, 'joules')} a {of}")
    if energy.co2e_kg is None:
        facts.append("CO₂e not told: set grid_kg_per_kwh, or --grid")
    else:
        facts.append(f"{energy.co2e_kg:.3g} kg CO₂e at {energy.grid_kg_per_kwh:g} kg a kWh")
    return " · ".join(facts)


def cost_line(profile: Profile) -> str | None:
    """``cost  12.40 = 3.1 h at 4 an hour``; in the user's currency, whatever that is."""
    cost = profile.cost
    return None if cost is None else f"cost  {cost.total:,.4g} = {cost.hours:.3g} h at {cost.price_per_hour:g} an hour"
