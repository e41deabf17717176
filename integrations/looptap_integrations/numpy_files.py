"""Files that the program reads with NumPy, as inputs of the run; and arrays that it is fed with, by their shape and type."""

from __future__ import annotations

from typing import Any

import numpy

from looptap.describing import Description
from looptap.fingerprints import SAMPLED, Fingerprint, digest
from looptap.inputs import read
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder

_READERS = {"load": "file", "loadtxt": "fname", "genfromtxt": "fname", "fromfile": "file"}
_READING = ("r", "readonly", "c", "copyonwrite", "r+", "readwrite")
#: Places in an array that are looked at: of a file in memory few pages.
_ROWS, _COLUMNS = 16, 32


class NumpyFilesIntegration(Integration):
    requires = "numpy>=1.22"
    captures = (
        Capture(
            "files that were read, by their SHA-256, as inputs",
            "numpy.load, loadtxt, genfromtxt, fromfile, memmap",
            "each call",
            "in the background",
        ),
        Capture("arrays: shape, type, values at a few places", "log_dataset, attributes of a data set", "once a run"),
    )
    not_captured = (
        "what is read from an open file or from memory",
        "calls of a reader that was imported by its name before autolog()",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        for name, argument in _READERS.items():
            patch.observe("numpy", name, self._reading(argument))
        patch.observe(numpy.memmap, "__new__", self.on_memmap)
        patch.hook(record.describers.register, self.describe)

    def _reading(self, argument: str) -> Any:
        def on_read(call: Call) -> Observation:
            yield
            if call.error is None and not self.record.is_suppressed():
                read(self.record, call.args[0] if call.args else call.kwargs.get(argument))

        return on_read

    def on_memmap(self, call: Call) -> Observation:
        yield
        if call.error is None and not self.record.is_suppressed():
            mode = call.args[3] if len(call.args) > 3 else call.kwargs.get("mode", "r+")
            if mode in _READING:
                read(self.record, call.args[1] if len(call.args) > 1 else call.kwargs.get("filename"))

    def describe(self, thing: Any) -> Description | None:
        if type(thing) not in (numpy.ndarray, numpy.memmap):
            return None
        shape, kind = list(thing.shape), thing.dtype
        found = Description(
            type(thing).__name__,
            "array",
            "numpy.ndarray",
            shape[0] if shape else None,
            schema={"shape": shape, "dtype": str(kind)},
        )
        if kind.hasobject:
            found.missing = "an array of objects is not looked into"
            return found
        found.parts = [Fingerprint(digest(f"{kind.str} {shape}".encode(), _sample(thing)), SAMPLED)]
        return found


def _sample(array: Any) -> bytes:
    """The bytes of the values at fixed places; the array is not laid out anew."""
    if array.size == 0:
        return b""
    plain = numpy.asarray(array)
    if plain.ndim == 0:
        return bytes(plain.tobytes())
    width = plain.size // plain.shape[0]
    rows = numpy.linspace(0, plain.shape[0] - 1, min(_ROWS, plain.shape[0])).astype(numpy.int64)
    columns = numpy.linspace(0, width - 1, min(_COLUMNS, width)).astype(numpy.int64)
    places = numpy.unravel_index((rows[:, None] * width + columns).ravel(), plain.shape)
    return bytes(plain[places].tobytes())
