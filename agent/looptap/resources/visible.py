"""Which GPUs the program sees, in the order in which it counts them: the rules of ``CUDA_VISIBLE_DEVICES``.

Entries are numbers, UUIDs (``GPU-…``, or as much of one as is needed to tell it) or MIG instances (``MIG-…``). What comes after the
first entry that names nothing is not seen, and neither is anything when one is named twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

VARIABLE = "CUDA_VISIBLE_DEVICES"
_Seen = TypeVar("_Seen")


class Gpu(NamedTuple):
    """``instances`` are the UUIDs of its MIG instances; it is then used through these only."""

    uuid: str
    instances: tuple[str, ...] = ()


class Place(NamedTuple):
    """A GPU by its number in the order of the driver, and the number of its MIG instance, if it is one."""

    gpu: int
    instance: int | None = None


def visible(variable: str | None, gpus: Sequence[Gpu]) -> list[Place]:
    """``variable`` is None where it is not set: then all are seen."""
    if variable is None:
        return [place for number in range(len(gpus)) for place in _places(number, gpus)]
    found: list[Place] = []
    for entry in variable.split(","):
        places = _named(entry.strip(), gpus)
        if not places:
            break
        found += places
    return found if len(set(found)) == len(found) else []


def names_one(variable: str | None) -> bool:
    """Whether exactly one is named, as launchers do that give each rank its own."""
    return variable is not None and variable.strip() not in ("", "-1") and "," not in variable


def _named(entry: str, gpus: Sequence[Gpu]) -> list[Place]:
    if entry.isascii() and entry.isdecimal():
        number = int(entry)
        return _places(number, gpus) if number < len(gpus) else []
    if entry.startswith("MIG-GPU-"):
        return _old_instance(entry, gpus)
    if entry.startswith("MIG-"):
        instances = [
            Place(number, at)
            for number, gpu in enumerate(gpus)
            for at, uuid in enumerate(gpu.instances)
            if uuid.startswith(entry)
        ]
        return instances if len(instances) == 1 else []
    matches = [number for number, gpu in enumerate(gpus) if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
    return _places(matches[0], gpus) if len(matches) == 1 else []


def _places(number: int, gpus: Sequence[Gpu]) -> list[Place]:
    instances = gpus[number].instances
    return [Place(number, at) for at in range(len(instances))] if instances else [Place(number)]


def _old_instance(entry: str, gpus: Sequence[Gpu]) -> list[Place]:
    """Drivers before 470 wrote ``MIG-GPU-UUID/GPU instance/compute instance``, and name their instances so, too."""
    return [Place(number, gpu.instances.index(entry)) for number, gpu in enumerate(gpus) if entry in gpu.instances]
