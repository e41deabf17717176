"""Shows what a run records to the rules that want to see it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from looptap.alerts import machine
from looptap.alerts.latch import Change
from looptap.alerts.losses import Diverging, is_loss, is_of_training
from looptap.alerts.not_finite import Norms, Odd
from looptap.alerts.ranks import Pace
from looptap.alerts.steps import Stall
from looptap.events import Points

#: Of one value, with its step and its time in seconds.
Rule: TypeAlias = Callable[[float, int, float], Change | None]
#: Programs record a handful of kinds of rows.
_MOST_ROWS = 1_000
_GPU = re.compile(r"system\.gpu\.(\w+)\.(utilization|memory_used_by_run)")
_FILLING = {
    "system.container.memory_percent": machine.memory_of_container,
    "system.memory.percent": machine.memory_of_host,
    "system.disk.percent": machine.disk,
}


#: What tells how many bytes of it are left.
_ROOM = {"system.memory.available": "system.memory.percent", "system.disk.free": "system.disk.percent"}


class _Row(NamedTuple):
    """What is recorded together: which of its values somebody wants to see, and whether it is of the training."""

    rules: tuple[tuple[str, Rule], ...]
    is_ours: bool


class Watch:
    """Of one process of a run. :meth:`see` every record of points once, in order, and :meth:`look` about once a second; from one
    thread at a time. ``is_first_on_host``: whether it also watches the machine, which processes of a job share."""

    def __init__(self, *, is_first_on_host: bool = True) -> None:
        self.stall = Stall()
        self._is_first_on_host = is_first_on_host
        self._is_of_job = False
        #: By context and key, and of rows that have been seen those that somebody wants to see.
        self._rules: dict[tuple[tuple[str, str], ...], dict[str, Rule | None]] = {}
        self._rows: dict[tuple[object, ...], _Row] = {}
        self.pace = Pace()
        self._filling = {key: make(key) for key, make in _FILLING.items()}
        self._devices = machine.IdleDevices()
        self._norms = Norms()
        self._odd = Odd()
        self._training_losses = 0

    def see(self, points: Points, arrived: float) -> list[Change]:
        """``arrived``: now, by the clock of :meth:`look`."""
        step, time = points.step, points.time_ns / 1e9
        context = points.context
        changes = self.complete() if self._odd.is_complete_before(step) else []
        values = points.values
        names = (*values, *sorted(context.items())) if context else (*values,)
        row = self._rows.get(names) or self._new_row(names, points)
        for key, rule in row.rules:
            if (change := rule(values[key], step, time)) is not None:
                changes.append(change)
        if row.is_ours and step > self.stall.last_step and (change := self.stall.step(step, time, arrived)) is not None:
            changes.append(change)
        return changes

    def join(self) -> None:
        """This process is one of several, which wait for each other's steps."""
        if self._is_of_job:
            return
        self._is_of_job = True
        self._rows.clear()
        for rules in self._rules.values():
            for key in [key for key in rules if Pace.wants(key)]:
                del rules[key]

    def complete(self) -> list[Change]:
        """No more is to come of the last step: a loss that has become NaN in it is told, with the norms of its gradients, which may
        come after it."""
        return self._odd.complete(self._norms.in_words())

    def _new_row(self, names: tuple[object, ...], points: Points) -> _Row:
        context = points.context
        rules = self._rules.setdefault(tuple(sorted(context.items())), {})
        wanted = []
        for key in points.values:
            if key not in rules:
                rules[key] = self._rule(key, context)
            if (rule := rules[key]) is not None:
                wanted.append((key, rule))
        if len(self._rows) >= _MOST_ROWS:
            self._rows.clear()
        row = self._rows[names] = _Row(tuple(wanted), not all(key.startswith("system.") for key in points.values))
        return row

    def _rule(self, key: str, context: Mapping[str, str]) -> Rule | None:
        if key.startswith("system."):
            return self._rule_of_machine(key) if self._is_first_on_host else None
        if self._is_of_job and Pace.wants(key):
            return lambda value, step, time: self.pace.see(key, value, step)
        if key == "grad_norm":
            call = context.get("call", "0")
            return lambda value, step, time: self._norms.see(call, value, step)
        if not is_loss(key):
            return None
        finite = self._odd.of(key)
        if not is_of_training(key, context):
            return lambda value, step, time: finite.see(value, step)
        self._training_losses += 1
        diverging = Diverging(key)

        def both(value: float, step: int, time: float) -> Change | None:
            # Losses that fight each other (GANs) go up and down by design.
            up = diverging.see(value, step) if self._training_losses == 1 else None
            return finite.see(value, step) or up

        return both

    def _rule_of_machine(self, key: str) -> Rule | None:
        if (filling := self._filling.get(key)) is not None:
            return lambda value, step, time: filling.see(value, time)
        if key in _ROOM:
            return lambda value, step, time: setattr(self._filling[_ROOM[key]], "room", value)
        if (found := _GPU.fullmatch(key)) is None:
            return None
        device = found[1]
        if found[2] == "utilization":
            return lambda value, step, time: self._devices.see(device, value, time)
        return lambda value, step, time: self._devices.uses(device) if value > 0 else None
