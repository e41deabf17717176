"""The file that the weights of a model lie in, where a model is several files: its digest tells two trainings apart.

The graph beside it does not: two trainings of the same network write the same one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

#: Where a tensor of an ONNX file says that it lies elsewhere (``TensorProto.external_data``): the key and the length of the value,
#: as protobuf writes them.
_LOCATION = re.compile(rb"\n\x08location\x12([\x00-\x7f]|[\x80-\xff][\x00-\x7f])")
_BLOCK_BYTES = 2**22
#: More than all of that and the value itself, which is up to 16,383 bytes long.
_OVERLAP_BYTES = 2**15

_SHARD = re.compile(r"variables\.data-\d{5}-of-\d{5}")


def of_saved_model(folder: str) -> str | None:
    """Of a SavedModel of TensorFlow: its variables, or its graph, where all weights are constants in that. None where the variables
    are several files, and of what is no SavedModel."""
    variables = os.path.join(folder, "variables")
    try:
        shards = [name for name in os.listdir(variables) if _SHARD.fullmatch(name)]
        with open(os.path.join(variables, "variables.index"), "rb") as file:
            keys = file.read()
    except (OSError, ValueError):
        shards, keys = [], b""
    if len(shards) > 1:
        return None
    # Without a variable there is still the graph of the objects, in a file of its own.
    has_variables = b"VARIABLE_VALUE" in keys or b"_CHECKPOINTABLE_OBJECT_GRAPH" not in keys
    path = os.path.join(variables, shards[0]) if shards and has_variables else os.path.join(folder, "saved_model.pb")
    return path if os.path.isfile(path) else None


def onnx_files(path: str) -> list[str]:
    """The file of an ONNX model, and those beside it that it names for its weights, as far as they are there; where that is
    one, they lie in it. Reads the model once, at about 2 GB/s."""
    try:
        return [one for one in (path, *sorted(_beside(path))) if os.path.isfile(one)]
    except (OSError, ValueError):
        return []


# --- private ----------------------------------------------------------------------------------------------------------


def _beside(path: str) -> set[str]:
    """Raises OSError or ValueError for what is no file."""
    if not os.path.isfile(path):
        raise ValueError(f"{path!r} is no file")
    folder = os.path.dirname(path)
    names = {os.path.normpath(os.fsdecode(name)) for name in _locations(path)}
    # The format allows for no other; what a model says is not to make us read any file of the machine.
    return {os.path.join(folder, name) for name in names if not (os.path.isabs(name) or name.startswith(os.pardir))}


def _locations(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        rest = b""
        while block := file.read(_BLOCK_BYTES):
            looked_at = rest + block
            for found in _LOCATION.finditer(looked_at):
                # Seven bits a byte, the lowest first.
                length = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(found[1]))
                name = looked_at[found.end() : found.end() + length]
                if len(name) == length:
                    yield name
            rest = looked_at[-_OVERLAP_BYTES:]
