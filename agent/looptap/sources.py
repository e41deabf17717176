"""Where data came from, as the function says that gave it to the program: ``mnist`` of Keras, a version of TensorFlow Datasets.

A program goes on with what it was given, or with something that is made of it: the object is known again, and an array by its
content as well, which stays when it becomes another library's.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from looptap.fingerprints import Fingerprint, Part

_MOST = 1_000


@dataclass(frozen=True)
class Source:
    name: str
    split: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    #: What identifies the content, where the source itself knows.
    parts: tuple[Part, ...] = ()


class Sources:
    """Keeps no data alive."""

    def __init__(self) -> None:
        self._by_object: dict[int, tuple[weakref.ref[Any], Source]] = {}
        self._by_content: dict[str, Source] = {}

    def remember(self, thing: Any, source: Source) -> None:
        """Nothing for an object that cannot be known again."""
        place = id(thing)
        try:
            reference = weakref.ref(thing, lambda _: self._by_object.pop(place, None))
        except TypeError:
            return
        if len(self._by_object) < _MOST:
            self._by_object[place] = (reference, source)

    def remember_content(self, parts: Iterable[Part], source: Source) -> None:
        for part in parts:
            if isinstance(part, Fingerprint) and len(self._by_content) < _MOST:
                self._by_content[part.value] = source

    def of(self, thing: Any) -> Source | None:
        reference, source = self._by_object.get(id(thing), (None, None))
        return source if reference is not None and reference() is thing else None

    def of_content(self, parts: Iterable[Part]) -> Source | None:
        """The source of the first of these that is known."""
        found = (self._by_content.get(part.value) for part in parts if isinstance(part, Fingerprint))
        return next((source for source in found if source is not None), None)
