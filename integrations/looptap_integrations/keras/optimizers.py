"""The optimizers of a model, and how far they are."""

from __future__ import annotations

from typing import Any


def optimizers_of(model: Any) -> list[tuple[str, Any]]:
    """The optimizers that a model holds, by name: the one it was compiled with, and those in attributes of its own."""
    found: list[tuple[str, Any]] = []
    compiled = getattr(model, "optimizer", None)
    if compiled is not None:
        found.append(("optimizer", compiled))
    for name, value in vars(model).items():
        if value is not compiled and hasattr(type(value), "apply_gradients") and hasattr(value, "get_config"):
            found.append((name.strip("_"), value))
    return found


def batches_seen(model: Any) -> int:
    """The batches that the model's optimizer has seen, as ``iterations`` tells them."""
    optimizer = getattr(model, "optimizer", None)
    return iterations(getattr(optimizer, "inner_optimizer", optimizer))


def iterations(optimizer: Any) -> int:
    """The batches that the optimizer has seen; 0 where there is none, or where that is not to be had."""
    try:
        # Not the public attribute, which counts a group of accumulated batches as one, but in Keras 3.3, which has no other.
        name = "_iterations" if hasattr(optimizer, "_iterations") else "iterations"
        variable = getattr(optimizer, name, None)
        return int(variable.numpy()) if variable is not None else 0
    except Exception:  # noqa: BLE001 - an optimizer of the program's own, or a state that is under way on JAX
        return 0
