"""A model that is watched: what it is called, and where its weights came from."""

from __future__ import annotations


class Model:
    """The same object for all calls of one watched model; windows are told apart by its name and version."""

    __slots__ = ("digest", "given", "has_modes", "name")

    def __init__(self, name: str, version: str | None = None, *, has_modes: bool = False) -> None:
        self.name = name
        #: It has an attribute ``training``, as modules of PyTorch have.
        self.has_modes = has_modes
        #: The version as the program calls it; None where its weights are to say it.
        self.given = version
        #: SHA-256 of the file that its weights came from; None while or where nobody knows.
        self.digest: str | None = None

    @property
    def version(self) -> str | None:
        return self.given or self.digest


#: Of requests that ask no model.
NO_MODEL = Model("")
