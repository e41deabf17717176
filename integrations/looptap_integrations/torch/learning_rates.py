"""The learning rates of one optimizer, and which of them changed since its last step."""

from __future__ import annotations

from typing import Any

import torch

from looptap.events import Context


class LearningRates:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._last: list[Any] = []
        #: By group, the same object each time.
        self._of_group: dict[tuple[int, str], Context] = {}

    def changed(self, groups: list[dict[str, Any]]) -> list[tuple[Context, Any]] | None:
        """Context and rate (a float or a tensor) of each group whose rate differs from last time; all at first. None: none."""
        last = self._last
        if len(last) != len(groups):
            last = self._last = [None] * len(groups)
        found: list[tuple[Context, Any]] | None = None
        for index, group in enumerate(groups):
            rate = group.get("lr")
            before = last[index]
            if rate is before or rate is None:
                continue
            if type(rate) is float:
                if type(before) is float and rate == before:
                    continue
                last[index] = rate
            elif isinstance(rate, torch.Tensor):
                # Comparing would wait for the device; every change in place counts up the version.
                state = (id(rate), rate._version)
                if state == before:
                    continue
                last[index] = state
            else:
                try:
                    rate = float(rate)
                except (TypeError, ValueError):  # a name of a schedule, say: it is no number
                    continue
                if rate == before:
                    continue
                last[index] = rate
            if found is None:
                found = []
            found.append((self._group_context(index, group, len(groups)), rate))
        return found

    def _group_context(self, index: int, group: dict[str, Any], count: int) -> Context:
        if count == 1:
            return self._context
        name = group.get("name")
        label = name if isinstance(name, str) else str(index)
        return self._of_group.setdefault((count, label), {**self._context, "group": label})
