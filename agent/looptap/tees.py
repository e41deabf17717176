"""No value twice: what programs hand to other tools is recorded beside them, and may be known to us already."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType

from looptap.frames import package_of

#: Frameworks that lead a training and log through the loggers of others.
FRAMEWORKS = frozenset(
    {
        "accelerate",
        "ignite",
        "keras",
        "lightning",
        "lightning_fabric",
        "pytorch_lightning",
        "tf_keras",
        "transformers",
    }
)
#: What may stand between the program and a tool's function: the tool itself, us, and what both are built with.
_BETWEEN = frozenset(
    {
        "concurrent",
        "contextlib",
        "functools",
        "looptap",
        "looptap_integrations",
        "mlflow",
        "tensorboard",
        "tensorboardX",
        "tensorflow",
        "threading",
        "torch",
        "torchmetrics",
        "tqdm",
        "wandb",
    }
)
#: Steps that are looked back at. A device hands its numbers over some steps later.
_STEPS = 32


def is_called_by_framework() -> bool:
    """Whether the nearest caller that is neither ours nor the tool's belongs to a framework, and not to the program.

    A thread of the tool's own, where there is no such caller, works for the framework.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = package_of(frame)
        if package not in _BETWEEN:
            return package in FRAMEWORKS
        frame = frame.f_back
    return True


class Told:
    """Values that came from the program by way of its loggers, at the last few steps."""

    def __init__(self) -> None:
        #: By step and key: value and who told it. Empty as long as nobody does.
        self.steps: dict[int, dict[str, list[tuple[float, str]]]] = {}

    def tell(self, values: Mapping[str, float], step: int, source: str) -> None:
        at = self.steps.get(step)
        if at is None:
            # Other threads tell as well: a copy made in one call, and not an iterator, which would raise when they do.
            for oldest in list(self.steps)[: 1 - _STEPS]:
                self.steps.pop(oldest, None)
            at = self.steps.setdefault(step, {})
        for key, value in values.items():
            told = at.setdefault(key, [])
            if (value, source) not in told and len(told) < _STEPS:
                told.append((value, source))

    def by_another(self, key: str, value: float, step: int, source: str) -> bool:
        """Whether another source has told the same."""
        told = self.steps.get(step, {}).get(key, ())
        return any(who != source and same(value, earlier) for earlier, who in told)

    def apart_from(self, values: Mapping[str, float], step: int) -> Mapping[str, float]:
        """These values without those that were told at this step."""
        at = self.steps.get(step)
        if at is None or at.keys().isdisjoint(values):
            return values
        return {
            key: value
            for key, value in values.items()
            if not any(same(value, earlier) for earlier, _ in at.get(key, ()))
        }


def same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)
