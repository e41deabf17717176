"""A model that is watched: what it is called, and where its weights came from."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from looptap.arrays import modules
from looptap.events import File
from looptap.serving.origins import digest

#: Read in a tenth of a second.
_SMALL_BYTES = 64 * 2**20
_LONGEST_SECONDS = 1.0


class Model:
    """The same object for all calls of one watched model; windows are told apart by its name and version."""

    __slots__ = (
        "_reading",
        "around",
        "device",
        "digest",
        "features",
        "given",
        "has_modes",
        "inputs",
        "is_read",
        "module",
        "name",
        "outputs",
        "source",
        "weights",
    )

    def __init__(self, name: str, version: str | None = None, *, has_modes: bool = False) -> None:
        self.name = name
        #: Names of the columns of what it is asked, where the program wants them counted.
        self.features: tuple[str, ...] = ()
        #: The share of its calls that may be kept as examples.
        self.inputs = 0.0
        #: Center and spread of the numbers of each stream of its answers, from its training.
        self.around: Mapping[str, tuple[float, float]] = {}
        #: Where its last answer lay, if on a device.
        self.device: Any = None
        #: It has an attribute ``training``, as modules of PyTorch have.
        self.has_modes = has_modes
        #: Of a session of ONNX Runtime, what its outputs are called (:mod:`looptap.serving.sessions`); None of other models.
        self.outputs: tuple[str, ...] | None = None
        #: The version as the program calls it; None where its weights are to say it.
        self.given = version
        #: SHA-256 of the file that its weights came from; None while or where nobody knows.
        self.digest: str | None = None
        #: The fingerprint of its weights; None while or where nobody knows.
        self.weights: str | None = None
        #: That file, and the module of PyTorch that has the weights, until somebody has the time to read them: not before a server
        #: forks, whose threads its workers have not.
        self.source: File | None = None
        self.module: Any = None
        self.is_read = False
        self._reading = threading.Lock()

    def read(self) -> None:
        """Whose weights these are. Takes its time for large ones; once."""
        self.is_read = True
        self._read_source()
        module, self.module = self.module, None
        if module is not None:
            self.weights = modules.weights_of(module)

    def read_small_source(self) -> None:
        """For a request that cannot do without the digest."""
        source = self.source
        if source is not None and source.size_bytes <= _SMALL_BYTES:
            self._read_source()

    def _read_source(self) -> None:
        # A lock that was held when a server forked is never given back.
        has_lock = self._reading.acquire(timeout=_LONGEST_SECONDS)
        try:
            if (source := self.source) is not None:
                self.digest, self.source = digest(source), None
        finally:
            if has_lock:
                self._reading.release()

    @property
    def version(self) -> str | None:
        return self.given or self.digest or self.weights

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """What its training can be found by."""
        return tuple(one for one in (self.digest, self.weights) if one is not None)


#: Of requests that ask no model.
NO_MODEL = Model("")
