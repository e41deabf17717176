"""The user's model inside what PyTorch wraps around it, and how large its parameters are where this rank has a part of each only.

Nothing here gathers a parameter: sizes are what each rank knows. Of FSDP's first version that is in its flat parameters, which have
no public face; where a version has them in another way, nothing is said.
"""

from __future__ import annotations

from typing import Any

import torch

#: Where wrappers keep the model: DistributedDataParallel and DataParallel, torch.compile, FullyShardedDataParallel.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module")


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The user's own model."""
    while type(model).__module__.startswith("torch.") and not _is_fully_sharded(model):
        inner = next((part for name, part in model.named_children() if name in _WRAPPERS), None)
        if inner is None:
            return model
        model = inner
    return model


def class_of(model: torch.nn.Module) -> type:
    """The class that the user wrote: ``fully_shard`` gives the model one that inherits from it."""
    kind = type(model)
    return kind.__mro__[2] if _is_fully_sharded(model) else kind


def whole_sizes(model: torch.nn.Module) -> dict[int, int] | None:
    """By id, the number of elements of those parameters that FSDP has taken apart, as they were before. None where that cannot be
    told. A DTensor tells the size of the whole itself."""
    sizes: dict[int, int] = {}
    for part in model.modules():
        if type(part).__name__ != "FullyShardedDataParallel" or not type(part).__module__.startswith("torch."):
            continue
        handle: Any = getattr(part, "_handle", None)
        if handle is None:  # it has no parameters of its own
            continue
        flat = getattr(handle, "flat_param", None)
        counts = getattr(flat, "_numels", None)
        if counts is None:
            return None
        sizes[id(flat)] = sum(counts)
        # With use_orig_params the optimizer has these, each of which has a part of itself here, or nothing.
        originals = getattr(flat, "_params", None) or ()
        sizes.update((id(tensor), count) for tensor, count in zip(originals, counts, strict=False))
    return sizes


def _is_fully_sharded(model: torch.nn.Module) -> bool:
    return any(base.__name__ == "FSDPModule" for base in type(model).__mro__[1:2])
