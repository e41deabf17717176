"""Which step a loss belongs to. Pure logic: no tensor, no clock, no recorder.

The step is the optimizer's, not the backward's. Losses gather while the program runs backward passes; when an optimizer
steps, what has gathered is its loss (the sum per name, in order, in float64) and is handed out with a step number.

Several optimizers make a *round*, which has one step number: each steps at most once in it. A round ends when

* an optimizer that has stepped in it steps again, or
* another one steps at a place of the program that cannot be in the same iteration: a new phase of the training, or
* a loss from a call site that was handed out in it comes again, for an optimizer that is alone: the fold of a
  cross-validation is over, and its successor takes its place.

Without any optimizer the backward pass itself is the step: a call site that comes again opens the next one.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

Value = TypeVar("Value", bound=Any)


class Rounds(Generic[Value]):
    """``Value`` is whatever ``+`` works on: a float, or a reading that a device still owes us."""

    def __init__(self) -> None:
        #: Number of the round under way; -1 before the first.
        self.step = -1
        self._is_over = True
        self.pending: dict[str, Value] = {}
        #: Backward passes since the last step, by call site.
        self.counts: dict[object, int] = {}
        self._stepped: set[object] = set()
        #: The optimizer that stepped last in this round; None before the first.
        self.last: object = None
        #: The optimizer that was the only one in this round, while no name is used by two.
        self.alone: object = None
        #: Call sites whose losses were handed out in this round.
        self.written: dict[object, int] = {}
        #: Losses that were handed out in this round.
        self.names: dict[str, Value] = {}
        self._apart: set[tuple[str, object]] = set()

    def restart(self) -> None:
        """A new run begins: steps count from 0 again. What is pending stays; it belongs to the first step."""
        self.move(-1)
        self._apart.clear()

    def move(self, step: int) -> None:
        """Somebody else counts: the next round has the number after this one."""
        self.step = step
        self._is_over = True
        self.alone = None
        self._stepped.clear()
        self.written = {}
        self.names = {}

    def backward(self, site: object, name: str, value: Value) -> None:
        """A backward pass from this call site has ended."""
        pending = self.pending
        if name in pending:
            pending[name] = pending[name] + value
        else:
            pending[name] = value
        counts = self.counts
        counts[site] = counts.get(site, 0) + 1

    def take_back(self, site: object, name: str, before: Value | None) -> None:
        """The backward pass did not get to its end; ``before`` is what was pending under that name when it began."""
        self.counts[site] = self.counts.get(site, 0) - 1
        if self.counts[site] <= 0:
            del self.counts[site]
        if before is None:
            self.pending.pop(name, None)
        else:
            self.pending[name] = before

    def may_join(self, optimizer: object) -> bool:
        """Others have stepped in this round, and this one has not."""
        return bool(self._stepped) and optimizer not in self._stepped

    def complete(
        self, optimizer: object, is_alone: bool, is_new_phase: bool = False
    ) -> tuple[dict[str, Value], dict[str, Value] | None]:
        """This optimizer has stepped. Returns the losses of its step, whose number is now in :attr:`step`, and apart
        from them those whose name another optimizer uses already: their series needs the optimizer as context.

        ``is_alone`` says that the program has no other optimizer at hand, ``is_new_phase`` that it cannot belong to the round.
        """
        values, self.pending = self.pending, {}
        counts, self.counts = self.counts, {}
        stepped, written = self._stepped, self.written
        if (
            self._is_over
            or is_new_phase
            or optimizer in stepped
            or (is_alone and not written.keys().isdisjoint(counts))
        ):
            self.step += 1
            self._is_over = False
            stepped.clear()
            written = self.written = {}
            self.names = {}
        stepped.add(optimizer)
        self.last = optimizer
        written.update(counts)
        apart: dict[str, Value] | None = None
        names = self.names
        if names or self._apart:
            for name in [name for name in values if name in names or (name, optimizer) in self._apart]:
                self._apart.add((name, optimizer))
                if apart is None:
                    apart = {}
                apart[name] = values.pop(name)
            self.names = {**names, **values}
        else:
            self.names = values
        self.alone = optimizer if len(stepped) == 1 and not self._apart else None
        return values, apart

    def take(self) -> tuple[dict[str, Value], list[object]]:
        """What is pending and its call sites, in order; nothing is pending afterwards."""
        values, self.pending = self.pending, {}
        counts, self.counts = self.counts, {}
        sites = list(counts)
        return values, sites

    def backward_is_step(self, site: object) -> int:
        """There is no optimizer: a backward pass from this call site is a step, or part of the one under way. Its number."""
        if self._is_over or site in self.written:
            self.step += 1
            self._is_over = False
            self.alone = None
            self.written = {}
            self._stepped.clear()
            self.names = {}
        self.written[site] = 1
        return self.step
