"""The closure that a program hands to ``step()``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from looptap_integrations.torch.times import Times


class Closure:
    """The program's closure, counted. What the evaluations after the first backward is not another loss of the step."""

    __slots__ = ("_function", "_is_running", "_times", "evaluations")

    def __init__(self, function: Callable[[], Any], times: Times) -> None:
        self._function = function
        self._times = times
        self._is_running = False
        self.evaluations = 0

    @property
    def is_repeating(self) -> bool:
        return self._is_running and self.evaluations > 1

    def __call__(self) -> Any:
        self.evaluations += 1
        self._is_running = True
        self._times.into_optimizer()
        try:
            return self._function()
        finally:
            self._is_running = False
