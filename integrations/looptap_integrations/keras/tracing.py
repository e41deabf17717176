"""Whether a value is a place in a function that is being compiled, and no number."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def is_symbolic_on(backend: str) -> Callable[[Any], bool]:
    """Asks it of a value of this backend."""
    if backend == "tensorflow":
        found: Callable[[Any], bool] = importlib.import_module("tensorflow").is_symbolic_tensor
        return found
    if backend == "jax":
        tracer = importlib.import_module("jax").core.Tracer
        return lambda value: isinstance(value, tracer)
    return lambda value: False
