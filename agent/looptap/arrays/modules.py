"""The fingerprint of the weights of a PyTorch module, as it is now: what its state dict would hold.

Its methods may be the program's own, so what it has is read from its variables. What lies on a device is not asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from looptap.arrays import fingerprints


def is_module(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def weights_of(module: Any) -> str | None:
    """None where it has something that a file could not be compared with. Takes its time for a large one."""
    torch: Any = sys.modules["torch"]
    if sys.byteorder != "little":
        return None
    arrays: list[bytes] = []
    total = 0
    for tensor in _tensors(module):
        if tensor is None or not _is_ordinary(torch, tensor):
            return None
        dtype, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
        total += fingerprints.size_bytes(dtype, shape) if dtype in fingerprints.SIZES else fingerprints.MOST_BYTES + 1
        if total > fingerprints.MOST_BYTES:
            return None
        content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        arrays.append(fingerprints.of_array(dtype, shape, [content]))
    return fingerprints.of_all(arrays)


def _is_ordinary(torch: Any, tensor: Any) -> bool:
    """Not a subclass, which may have anything behind it; nor one that is read through something."""
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and not (tensor.is_conj() or tensor.is_neg() or tensor.is_quantized)
    )


def _tensors(module: Any) -> Iterator[Any]:
    """Of it and of what it is made of; None for what keeps its own elsewhere."""
    waiting, seen = [module], {id(module)}
    while waiting:
        variables = vars(waiting.pop())
        held = [variables.get(name) for name in ("_parameters", "_buffers", "_modules")]
        if not all(isinstance(one, dict) for one in held):
            yield None
            return
        parameters, buffers, modules = (dict(one) for one in held if one is not None)
        passing = variables.get("_non_persistent_buffers_set") or ()
        yield from (one for one in parameters.values() if one is not None)
        yield from (one for name, one in buffers.items() if one is not None and name not in passing)
        for one in modules.values():
            if one is not None and id(one) not in seen:
                seen.add(id(one))
                waiting.append(one)
