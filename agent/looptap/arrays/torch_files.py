"""Files of ``torch.save``: a zip archive in which each storage is a record that is not compressed, and ``data.pkl`` says what is
where.

A checkpoint has more in it than the weights. Those are the largest dict of names and tensors that lies no deeper than
``{"nets": {"model": {…}}}``; what an optimizer keeps lies under numbers, or deeper. A module that was saved as a whole has them all
over itself.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Sequence

from looptap.arrays import fingerprints, pickles
from looptap.arrays.pickles import Dict, Other, Storage, Tensor
from looptap.digests import OpenFile

#: A pickle that is longer is of something else than weights, and takes too long to read.
_MOST_PICKLE_BYTES = 2 * 2**20
_DEPTH = 2
_LOCAL_HEADER_BYTES = 30
_TYPES = {
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "IntStorage": "int32",
    "FloatStorage": "float32",
    "LongStorage": "int64",
    "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}


def weights(file: OpenFile) -> str | None:
    """Of the largest model in it. Raises what :func:`looptap.arrays.pickles.read` raises, and
    :class:`looptap.digests.Unobtainable`."""
    with zipfile.ZipFile(_Reading(file)) as archive:  # reads where things are, and nothing else
        records = {info.filename: info for info in archive.infolist()}
    (top,) = (name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl"))
    if records[f"{top}data.pkl"].file_size > _MOST_PICKLE_BYTES:
        return None
    order = records.get(f"{top}byteorder")
    if order is not None and b"".join(_content(file, order, 0, order.file_size)) != b"little":
        return None
    pickled = records[f"{top}data.pkl"]
    found = max(_models(pickles.read(b"".join(_content(file, pickled, 0, pickled.file_size)))), key=_size, default=None)
    if found is None or _size(found) > fingerprints.MOST_BYTES:
        return None
    arrays = []
    for tensor in dict.fromkeys(found):
        dtype, record = _dtype(tensor), records[f"{top}data/{tensor.storage.key}"]
        start, size = tensor.offset * fingerprints.SIZES[dtype], fingerprints.size_bytes(dtype, tensor.shape)
        if not _is_in_one_piece(tensor) or start + size > record.file_size:
            return None
        arrays.append(fingerprints.of_array(dtype, tensor.shape, _content(file, record, start, size)))
    return fingerprints.of_all(arrays)


# --- private ----------------------------------------------------------------------------------------------------------


def _models(found: object, depth: int = 0) -> Iterator[list[Tensor]]:
    """What may be the weights of one; not what has something in it that is no tensor of the ordinary kind."""
    if isinstance(found, Dict):
        values = [value for key, value in found.items if isinstance(key, str)]
        direct = [value for value in values if isinstance(value, Tensor)]
        if direct and not any(isinstance(one, Other | Storage) and _has_unknown(one) for one in values):
            yield direct
        if depth < _DEPTH:
            for value in values:
                yield from _models(value, depth + 1)
    elif isinstance(found, Other):
        every = [one for one in pickles.inside(found) if isinstance(one, Tensor)]
        if every and not _has_unknown(found):
            yield every


def _has_unknown(found: object) -> bool:
    return any(isinstance(one, Storage) for one in pickles.inside(found))


def _dtype(tensor: Tensor) -> str:
    return _TYPES[tensor.storage.kind.rpartition(" ")[2]]


def _size(tensors: Sequence[Tensor]) -> int:
    return sum(fingerprints.size_bytes(_dtype(one), one.shape) for one in tensors)


def _is_in_one_piece(tensor: Tensor) -> bool:
    expected = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if size == 0:
            return True
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _content(file: OpenFile, record: zipfile.ZipInfo, start: int, size: int) -> Iterator[bytes]:
    if record.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{record.filename} is compressed")
    head = file.piece(record.header_offset, _LOCAL_HEADER_BYTES)
    names = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    return file.pieces(record.header_offset + _LOCAL_HEADER_BYTES + names + start, size)


class _Reading(io.RawIOBase):
    """What ``zipfile`` wants of a file."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__()
        self._file = file
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.file.size_bytes}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]
        data = self._file.piece(self._at, len(into))
        into[: len(data)] = data
        self._at += len(data)
        return len(data)
