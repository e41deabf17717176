"""What can be told of a data set without iterating it, and without running any of its code (:mod:`looptap.looking`).

Integrations register what they know: ``patch.hook(record.describers.register, self.describe)`` with a function that returns a
:class:`Description`, or None for what is none of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from looptap import looking
from looptap.fingerprints import Files, Part
from looptap.sources import Source, Sources

_ROOTS = (
    "root",
    "root_dir",
    "data_dir",
    "data_root",
    "data_path",
    "data_folder",
    "folder",
    "directory",
    "path",
    "file_path",
)
_SPLITS = ("split", "mode", "image_set", "subset", "partition", "phase")
_TRANSFORMS = ("transform", "target_transform")
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]+://")
_ARRAYS = ("Tensor", "ndarray", "DataFrame", "memmap")
_MOST_ARRAYS = 32


@dataclass
class Description:
    """Of one data set. ``parts`` are what its fingerprint is made of; when there are none, ``missing`` says why."""

    name: str
    kind: str = "object"
    class_name: str | None = None
    length: int | None = None
    split: str | None = None
    root: str | None = None
    transform: str | None = None
    schema: Any = None
    details: dict[str, Any] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    #: What it is identified by where files among the parts cannot be looked into.
    otherwise: list[Part] = field(default_factory=list)
    missing: str | None = None

    def called(self, source: Source) -> None:
        """It goes by the name that its source gives it."""
        self.name, self.split = source.name, source.split
        self.details = {**self.details, **source.details}


Describer = Callable[[Any], "Description | None"]


class Registered:
    """What :meth:`Describers.register` hands out."""

    def __init__(self, describers: list[Describer], describer: Describer) -> None:
        self._describers, self._describer = describers, describer

    def remove(self) -> None:
        if self._describer in self._describers:
            self._describers.remove(self._describer)


class Describers:
    def __init__(self) -> None:
        self._known: list[Describer] = []
        #: What is known of data by those who gave it to the program.
        self.sources = Sources()

    def register(self, describer: Describer) -> Registered:
        self._known.append(describer)
        return Registered(self._known, describer)

    def describe(self, thing: Any) -> Description:
        """``thing`` is a data set, a loader, an array, a table, or the path of a file or folder."""
        found = self._described(thing)
        source = self.sources.of(thing)
        if source is not None:
            found.called(source)
            if source.parts:
                found.parts, found.missing = list(source.parts), None
        return found

    def _described(self, thing: Any) -> Description:
        for describer in reversed(self._known):
            if (found := describer(thing)) is not None:
                return found
        if issubclass(type(thing), (str, os.PathLike)):
            return of_path(os.fsdecode(os.fspath(thing)))
        return self.of_object(thing)

    def of_object(self, thing: Any, kind: str = "object") -> Description:
        """By its attributes: where its files are, its split, its transforms, its arrays."""
        found = Description(
            type(thing).__name__,
            kind,
            looking.class_name(thing),
            looking.length(thing),
            split_of(thing),
            transform=transform_of(thing),
        )
        self._add_arrays(found, thing)
        root = looking.text_of(thing, *_ROOTS)
        if root is not None and "\0" not in root:
            found.root = root if _URL.match(root) else os.path.abspath(os.path.expanduser(root))
            # Other data may lie beside that of torchvision's kind.
            below = (looking.attribute(thing, "base_folder"), type(thing).__name__)
            files = Files(found.root, tuple(name for name in below if type(name) is str))
            if _URL.match(root):
                found.missing = None if found.parts else "its files are not on this machine"
            else:
                found.otherwise, found.parts, found.missing = found.parts, [files], None
            return found
        if not found.parts:
            found.missing = "nothing that identifies its content is known"
        return found

    def _add_arrays(self, found: Description, thing: Any) -> None:
        arrays = {
            name: value
            for name, value in sorted(looking.attributes(thing).items())
            if type(value).__name__ in _ARRAYS and looking.is_well_known(value)
        }
        if not arrays or len(arrays) > _MOST_ARRAYS:
            return
        told = {name: self.describe(value) for name, value in arrays.items()}
        found.schema = {name: one.schema for name, one in told.items()}
        reasons = [one.missing for one in told.values() if one.missing]
        if reasons:
            found.missing = reasons[0]
        else:
            found.parts = [part for one in told.values() for part in one.parts]


def of_path(path: str) -> Description:
    """A file or folder of this machine; anything else has no fingerprint."""
    name = os.path.basename(path.rstrip("/\\")) or path
    if _URL.match(path):
        return Description(name, "url", root=path, missing="it is not a file of this machine")
    if "\0" in path:
        return Description(name, "file", missing="no path")
    place = os.path.abspath(os.path.expanduser(path))
    return Description(name, "folder" if os.path.isdir(place) else "file", root=place, parts=[Files(place)])


def combined(parts: list[Description]) -> tuple[list[Part], str | None]:
    """What identifies several data sets one after the other, or why nothing does."""
    reasons = [part.missing or "no fingerprint" for part in parts if not part.parts]
    return ([], reasons[0]) if reasons else ([piece for part in parts for piece in part.parts], None)


def transform_of(thing: Any) -> str | None:
    told = []
    for name in _TRANSFORMS:
        value = looking.attributes(thing).get(name)
        if value is not None:
            told.append(looking.sketch(value) if name == "transform" else f"{name}={looking.sketch(value)}")
    if not told and (value := looking.attributes(thing).get("transforms")) is not None:
        told.append(looking.sketch(value))
    return ", ".join(told) or None


def split_of(thing: Any) -> str | None:
    for name in _SPLITS:
        value = looking.attribute(thing, name)
        if type(value) is str and value:
            return value
    value = looking.attributes(thing).get("train")
    return None if type(value) is not bool else "train" if value else "test"
