"""A model that is watched: what it is called, and where its weights came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from looptap.events import File
from looptap.serving.origins import digest


class Model:
    """The same object for all calls of one watched model; windows are told apart by its name and version."""

    __slots__ = ("around", "device", "digest", "features", "given", "has_modes", "name", "outputs", "source")

    def __init__(self, name: str, version: str | None = None, *, has_modes: bool = False) -> None:
        self.name = name
        #: Names of the columns of what it is asked, where the program wants them counted.
        self.features: tuple[str, ...] = ()
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
        #: That file, until somebody has the time to read it: not before a server forks, whose threads its workers have not.
        self.source: File | None = None

    def read_source(self) -> None:
        """Takes its time for a large file; once."""
        source, self.source = self.source, None
        if source is not None:
            self.digest = digest(source)

    @property
    def version(self) -> str | None:
        return self.given or self.digest


#: Of requests that ask no model.
NO_MODEL = Model("")
