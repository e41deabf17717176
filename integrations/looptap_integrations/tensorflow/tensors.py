"""Tensors in the memory of the host, as NumPy sees them; those on a device are left alone, because reading them would wait."""

from __future__ import annotations

from typing import Any

#: A list of more texts than this is not looked at.
MOST_TEXTS = 100_000


def array_of(tensor: Any) -> Any:
    """The same memory as a NumPy array, or None for what is on a device, symbolic, or no plain tensor."""
    if (
        type(tensor).__name__ != "EagerTensor"
        or "CPU" not in tensor.device.upper()
        or not tensor.dtype.is_numpy_compatible
    ):
        return None
    return tensor.__array__()


def constant(value: Any) -> Any:
    """A number, text or truth value, given as such or as a tensor that is one; None for anything else."""
    if value is None or type(value) in (int, float, bool, str):
        return value
    shape = getattr(value, "shape", None)
    if getattr(shape, "rank", None) != 0:
        return None
    array = array_of(value)
    if array is None:
        return None
    found = array.item() if hasattr(array, "item") else array
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else found


def texts_of(tensor: Any) -> list[str] | None:
    """The texts of a list of them; None for anything else, and for more than :data:`MOST_TEXTS`."""
    if tensor.dtype.name != "string" or tensor.shape.rank != 1 or not 0 < (tensor.shape[0] or 0) <= MOST_TEXTS:
        return None
    array = array_of(tensor)
    return None if array is None else [text.decode("utf-8", "surrogateescape") for text in array.tolist()]
