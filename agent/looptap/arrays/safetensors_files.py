"""Files of ``safetensors``: the length of a header, the header in JSON, and the arrays one after the other."""

from __future__ import annotations

import json

from looptap.arrays import fingerprints
from looptap.digests import OpenFile

#: As the library itself has it.
_MOST_HEADER_BYTES = 100_000_000
_TYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "I64": "int64",
    "U64": "uint64",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


def weights(file: OpenFile) -> str | None:
    """Of all arrays in it. Raises ValueError, KeyError or :class:`looptap.digests.Unobtainable` for what is no such file."""
    length = int.from_bytes(file.piece(0, 8), "little")
    if length > _MOST_HEADER_BYTES or file.file.size_bytes > fingerprints.MOST_BYTES:
        return None
    told = json.loads(file.piece(8, length))
    found = []
    for name, about in told.items():
        if name == "__metadata__":
            continue
        dtype, shape, (start, end) = _TYPES[about["dtype"]], about["shape"], about["data_offsets"]
        if end - start != fingerprints.size_bytes(dtype, shape):
            raise ValueError(f"{name} has {end - start} bytes")
        found.append(fingerprints.of_array(dtype, shape, file.pieces(8 + length + start, end - start)))
    return fingerprints.of_all(found)
