"""What a model takes and gives, in one line: ``input float32[None, 28, 28]; output float32[None, 10]``."""

from __future__ import annotations

from typing import Any

from looptap import looking

_MOST = 32


def signature(model: Any) -> str | None:
    """As far as the model knows by itself; None when it was not built. Of a class of the program's, only the shapes of its inputs
    are known. No code of the program is run."""
    # Of a Sequential model that was built. PyTorch keeps it as one of the modules inside.
    inside = {**(looking.attributes(model).get("_modules") or {}), **looking.attributes(model)}
    owner = inside.get("_functional", model)
    # The first is Keras 3, the second tf-keras.
    inputs = looking.attribute(owner, "_inputs") or looking.attribute(owner, "inputs")
    outputs = looking.attribute(owner, "_outputs") or looking.attribute(owner, "outputs")
    told = [("input", _tensors(inputs, are_named=True)), ("output", _tensors(outputs))]
    if told[0][1] is None:
        told[0] = ("input", _shapes(looking.attribute(model, "_build_shapes_dict")))
    return "; ".join(f"{what} {text}" for what, text in told if text) or None


def _tensors(tensors: Any, are_named: bool = False) -> str | None:
    """Of the symbolic tensors of a graph of layers."""
    if not isinstance(tensors, (list, tuple)) or not 0 < len(tensors) <= _MOST or not all(map(_is_symbolic, tensors)):
        return None
    return ", ".join(_tensor(one, is_named=are_named and len(tensors) > 1) for one in tensors)


def _is_symbolic(tensor: Any) -> bool:
    """And so one of Keras', whose attributes are no code of the program's."""
    return type(tensor).__name__ == "KerasTensor" and type(tensor).__module__.partition(".")[0] in ("keras", "tf_keras")


def _tensor(tensor: Any, is_named: bool) -> str:
    kind = getattr(tensor.dtype, "name", tensor.dtype)
    name = f"{tensor.name}: " if is_named and not tensor.name.startswith("keras_tensor") else ""
    return f"{name}{kind}{list(tensor.shape)}"


def _shapes(shapes: Any) -> str | None:
    """Of what the model was first called with, by argument. The size of that batch is no part of it."""
    if not isinstance(shapes, dict) or not 0 < len(shapes) <= _MOST:
        return None
    told = []
    for name, shape in shapes.items():
        if not isinstance(shape, (tuple, list)) or not all(size is None or type(size) is int for size in shape):
            return None
        text = str([None, *shape[1:]])
        told.append(text if len(shapes) == 1 else f"{name.removesuffix('_shape')}: {text}")
    return ", ".join(told)
