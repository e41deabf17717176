"""Mixed precision: the loss behind a scaled one, the scale of a step, and whether the step was skipped."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from looptap_integrations.torch.scalars import Reading, Scalar, Scalars


class Scaling:
    def __init__(self, scalars: Scalars) -> None:
        self._scalars = scalars
        #: By id of a scaled tensor that is alive: itself, its value before, the tensor before.
        self._scaled: dict[int, tuple[weakref.ref[Any], Scalar | None, weakref.ref[Any]]] = {}
        #: The scale of the last call of ``scale`` whose result has not been backwarded: what comes next may rest on it.
        self._open_scale: Scalar | None = None
        #: True from the first use of a scaler on.
        self.in_use = False
        self._stepping: torch.amp.GradScaler | None = None
        self._last_scale: float | None = None

    def scaled(self, scaler: torch.amp.GradScaler, outputs: Any, results: Any) -> None:
        """``scaler.scale(outputs)`` has given ``results``."""
        if isinstance(results, torch.Tensor):
            outputs, results = (outputs,), (results,)
        if not (isinstance(outputs, (list, tuple)) and isinstance(results, (list, tuple))):
            return
        self.in_use = True
        for before, after in zip(outputs, results, strict=False):
            if before is after or not isinstance(after, torch.Tensor):
                continue
            self._remember(before, after)
            self._open_scale = self._scalars.read(scaler._scale)

    def _remember(self, before: torch.Tensor, after: torch.Tensor) -> None:
        key, scaled = id(after), self._scaled

        def forget(_: Any) -> None:
            scaled.pop(key, None)

        scaled[key] = (weakref.ref(after, forget), self._scalars.read(before), weakref.ref(before))

    def value_before(self, tensor: torch.Tensor) -> tuple[Scalar | None, torch.Tensor | None]:
        """The number that this tensor had before it was scaled (its own, if it was not), and the tensor before, if alive."""
        known = self._scaled.get(id(tensor))
        if known is not None and known[0]() is tensor:
            self._open_scale = None
            return known[1], known[2]()
        value = self._scalars.read(tensor)
        scale = self._open_scale
        if scale is None or value is None:
            return value, None
        # (scaler.scale(loss) / n).backward(): scales are powers of two unless the user set another, so this is exact.
        return Reading.of(value) / scale if isinstance(scale, Reading) else value / scale, None

    def begin_step(self, scaler: torch.amp.GradScaler) -> None:
        self._stepping = scaler

    def end_step(self) -> None:
        self._stepping = None

    def complete(self, optimizer: Any, values: dict[str, Scalar], is_skipped: bool) -> None:
        """Add what the scaler did to the values of a step."""
        self._open_scale = None
        if self._stepping is None:
            return
        scale = self._scalars.read(self._stepping._scale)
        if isinstance(scale, Reading):
            values["amp_scale"] = scale  # whether it changed is seen once it is here
        elif scale is not None and scale != self._last_scale:
            self._last_scale = values["amp_scale"] = scale
        if is_skipped:
            values["amp_skipped"] = 1.0
            return
        # Optimizers with fused=True are always called, and leave the weights alone themselves.
        found = getattr(optimizer, "found_inf", None)
        skipped = None if found is None else self._scalars.read(found)
        if skipped is not None and skipped != 0.0:
            values["amp_skipped"] = skipped

    def sift(self, numbers: dict[str, float]) -> dict[str, float]:
        """Of what a device has handed over late: without a scale that did not change and a skip that was none."""
        scale = numbers.get("amp_scale")
        if scale is not None:
            if scale == self._last_scale:
                del numbers["amp_scale"]
            self._last_scale = scale
        if numbers.get("amp_skipped") == 0.0:
            del numbers["amp_skipped"]
        return numbers

    def restart(self) -> None:
        """A new run: the scale is due again."""
        self._last_scale = None
