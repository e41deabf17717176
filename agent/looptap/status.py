"""What is captured now, what is not, and why: the answer of :func:`looptap.status`."""

from __future__ import annotations

from dataclasses import dataclass, field

from looptap.integration import Capture
from looptap.session import SESSION


@dataclass(frozen=True)
class IntegrationStatus:
    """``state`` is waiting (its framework is not imported), active, disabled, unsupported or failed."""

    name: str
    state: str
    version: str | None
    reason: str
    problems: tuple[str, ...]
    captures: tuple[Capture, ...]
    not_captured: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """``emitted = stored + in_journal + dropped``; all four count records of the run under way."""

    enabled: bool
    run: str | None
    store: str | None
    emitted: int = 0
    stored: int = 0
    in_journal: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    integrations: tuple[IntegrationStatus, ...] = ()
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"looptap is {'on' if self.enabled else 'off: call looptap.autolog()'}"]
        if self.run:
            lost = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items()) or "0"
            lines += [
                f"run {self.run} → {self.store}",
                f"  {self.emitted:,} records emitted = {self.stored:,} stored + {self.in_journal:,} in the journal"
                f" + {lost} dropped",
            ]
        elif self.enabled:
            lines.append("no run yet: one begins with the first sign of training")
        waiting = [item.name for item in self.integrations if item.state == "waiting" and not item.reason]
        if waiting:
            lines.append(f"captured as soon as they are imported: {', '.join(waiting)}")
        for item in self.integrations:
            if item.name in waiting:
                continue
            version = f" {item.version}" if item.version else ""
            lines.append(f"{item.name}{version}: {item.state}{f' ({item.reason})' if item.reason else ''}")
            if item.state == "active":
                lines += [f"  + {capture.what}" for capture in item.captures]
                lines += [f"  - {text}" for text in item.not_captured]
            lines += [f"  ! {text}" for text in item.problems]
        lines += [f"! {text}" for text in self.problems]
        return "\n".join(lines)


def current_status() -> Status:
    run = SESSION.run
    problems = list(SESSION.problems)
    if SESSION.guard.last_error:
        problems.append(SESSION.guard.last_error)
    integrations = tuple(
        IntegrationStatus(
            entry.name,
            entry.state,
            entry.version,
            entry.reason,
            tuple(entry.problems()),
            entry.integration.captures if entry.integration else (),
            entry.integration.not_captured if entry.integration else (),
        )
        for entry in SESSION.registry.entries.values()
    )
    if run is None:
        return Status(SESSION.armed, None, None, integrations=integrations, problems=tuple(problems))
    emitted, stored = 0, 0
    dropped: dict[str, int] = {}
    for journal, sender in ((run.journal, run.sender), (run.files.opened, run.files.sender)):
        if journal is None:
            continue
        state = sender.state() if sender else None
        problems += [
            text for text in (journal.problem, state.error if state else None) if text and text not in problems
        ]
        emitted += journal.position
        stored += state.stored if state else 0
        for reason, count in journal.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return Status(
        SESSION.armed,
        run.name,
        run.store,
        emitted=emitted,
        stored=stored,
        in_journal=emitted - stored - sum(dropped.values()),
        dropped=dropped,
        integrations=integrations,
        problems=tuple(problems),
    )
