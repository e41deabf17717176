"""Losses that are no number any more.

What is computed from a NaN is NaN: other losses, means over the epoch, and by the next step the whole model. So the first series
that is no number speaks for those that follow it. What was finite for longer than a step after that is a matter of its own.
"""

from __future__ import annotations

import math

from looptap.alerts.latch import CRITICAL, FIRED, RECOVERED, Change

KIND = "not_finite"
#: So many finite values in a row, and a loss that was NaN has recovered.
FINITE_AGAIN_VALUES = 100


class Odd:
    """The losses of one process that are no numbers, those before the others that the others follow."""

    def __init__(self) -> None:
        self._leading: list[NotFinite] = []
        #: Told when their step is complete: others may follow them within it.
        self._held: list[NotFinite] = []

    def of(self, key: str) -> NotFinite:
        return NotFinite(key, self)

    def is_complete_before(self, step: int) -> bool:
        """Whether there is something to tell, and no more to come of it, when this step is seen."""
        return bool(self._held) and step > self._held[0].since

    def complete(self, words: str) -> list[Change]:
        """No more is to come of the last step. ``words`` are put behind each message."""
        held, self._held = self._held, []
        return [loss.fired(words) for loss in held]

    def became(self, loss: NotFinite) -> None:
        """It is odd since its step. Where it follows none, it leads from now on."""
        for lead in self._leading:
            if loss.finite_at <= lead.since + 1:
                lead.followers += loss.since == lead.since
                return
        self._leading.append(loss)
        self._held.append(loss)

    def recovered(self, loss: NotFinite) -> bool:
        """Whether it was one that led."""
        if loss not in self._leading:
            return False
        self._leading.remove(loss)
        return True


class NotFinite:
    """One loss: NaN or infinite since the first such value."""

    def __init__(self, key: str, odd: Odd) -> None:
        self._key = key
        self._odd = odd
        self._stands = False
        self._finite = 0
        self._value = math.nan
        self.since = 0
        #: How many others became odd in the same step.
        self.followers = 0
        #: The last step at which it was finite.
        self.finite_at = -math.inf

    def see(self, value: float, step: int) -> Change | None:
        """When it has recovered. That something is wrong is told by :meth:`Odd.complete`."""
        if math.isfinite(value):
            self.finite_at = step
            return self._finite_again(value, step) if self._stands else None
        self._finite = 0
        if not self._stands:
            self._stands, self.since, self.followers, self._value = True, step, 0, value
            self._odd.became(self)
        return None

    def fired(self, words: str) -> Change:
        said = f"{self._key} is {'NaN' if math.isnan(self._value) else 'infinite'} since step {self.since}"
        if self.followers:
            said += f", and {self.followers} other loss{'' if self.followers == 1 else 'es'} with it"
        return Change(KIND, CRITICAL, FIRED, said + words, self._key, self._value, None, self.since)

    def _finite_again(self, value: float, step: int) -> Change | None:
        self._finite += 1
        if self._finite < FINITE_AGAIN_VALUES:
            return None
        self._stands, self._finite = False, 0
        if not self._odd.recovered(self):
            return None
        said = f"{self._key} has been finite for {FINITE_AGAIN_VALUES} values"
        return Change(KIND, CRITICAL, RECOVERED, said, self._key, value, None, step)


class Norms:
    """Since which step the gradient norms that the program computes for its own clipping are not finite, by call."""

    def __init__(self) -> None:
        self._since: dict[str, int | None] = {}

    def see(self, call: str, value: float, step: int) -> None:
        if math.isfinite(value):
            self._since[call] = None
        elif self._since.get(call) is None:
            self._since[call] = step

    def in_words(self) -> str:
        """What to say of them beside a loss that is NaN; nothing where the program told none."""
        if not self._since:
            return ""
        odd = {call: since for call, since in self._since.items() if since is not None}
        if not odd:
            return "; the gradient norms that the program clips were finite"
        if len(self._since) == 1:
            return f"; the gradient norm is not finite since step {min(odd.values())}"
        told = ", ".join(f"{call} since step {since}" for call, since in sorted(odd.items()))
        fine = [call for call in sorted(self._since) if call not in odd]
        return f"; gradient norm not finite of clipping call {told}" + (
            f", finite of {', '.join(fine)}" if fine else ""
        )
