"""What the functions of a SavedModel take and give: ``input x float32[None, 3]; output score float32[None, 1]``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MOST = 32
#: The one that is served where there is no choice.
_USUAL = "serving_default"


def signature(given: Any) -> str | None:
    """Of what ``tf.saved_model.save`` was given as ``signatures``: a function that was traced already, or several by name. None
    where there is none: TensorFlow then looks for one in the object."""
    if isinstance(given, Mapping):
        told = {str(name): _function(function) for name, function in list(given.items())[:_MOST]}
        if set(told) == {_USUAL}:
            return told[_USUAL]
        return " | ".join(f"{name}: {text}" for name, text in told.items() if text) or None
    return _function(given)


def _function(function: Any) -> str | None:
    taken = getattr(function, "structured_input_signature", None)
    # Not traced yet: what it will be traced with, if that is fixed.
    taken = getattr(function, "input_signature", None) if taken is None else taken
    told = [
        f"{what} {', '.join(tensors)}"
        for what, tensors in (
            ("input", list(_tensors(taken))),
            ("output", list(_tensors(getattr(function, "structured_outputs", None)))),
        )
        if 0 < len(tensors) <= _MOST
    ]
    return "; ".join(told) or None


def _tensors(spec: Any, name: str = "") -> Iterator[str]:
    if isinstance(spec, Mapping):
        for key, value in spec.items():
            yield from _tensors(value, str(key))
    elif isinstance(spec, (list, tuple)):
        for value in spec:
            yield from _tensors(value, name)
    elif hasattr(spec, "dtype") and hasattr(spec, "shape"):
        shape = spec.shape.as_list() if spec.shape.rank is not None else "?"
        told = name or getattr(spec, "name", None) or ""
        yield f"{told} {spec.dtype.name}{shape}".strip()
