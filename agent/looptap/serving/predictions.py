"""What a model answered, as streams of numbers and classes. The same for serving and for the evaluation in training that it is
compared with.

Of an answer with several numbers a row, ``class`` is the place of the greatest one; where a row is a distribution (none below zero,
a sum of one), ``confidence`` is that number. One number a row is ``value``; a whole number, a bool or a short text is a ``class``;
a text has a ``length``. Named outputs are told apart by their names (``logits.class``). Nothing in a name is a secret.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from math import isfinite
from typing import Any

from looptap.redaction import REDACTED
from looptap.serving.answers import Part, Skipped, keep
from looptap.serving.devices import Later
from looptap.session import SESSION
from looptap.sketches.distribution import Distribution
from looptap.sketches.framing import frame_of

#: A text up to so many characters may be the name of a class.
_NAME_CHARACTERS = 64
MOST_STREAMS = 16
#: How far from one the numbers of a distribution may add up to: those of bfloat16 do so.
_SUM_TOLERANCE = 0.02
#: Center and spread of numbers that are counted as they are.
_PLAIN = (0.0, 1.0)


class _Stream:
    """One stream, and what is not in its distribution yet: many at once cost least."""

    __slots__ = ("distribution", "is_secret", "name", "names", "numbers")

    def __init__(self, name: str, center: float, spread: float) -> None:
        redactor = SESSION.recorder.redactor
        self.name = redactor.text(name)
        #: By the name of the output.
        self.is_secret = redactor.is_secret(name.rpartition(".")[0])
        self.distribution = Distribution(center, spread)
        self.numbers: list[float] = []
        #: Of classes; places are whole numbers until they are told.
        self.names: list[Hashable] = []

    def whole(self) -> Distribution:
        numbers, self.numbers = self.numbers, []
        names, self.names = self.names, []
        self.distribution.add_numbers(numbers)
        for name, count in Counter(names).items():
            self.distribution.classes[self._told(name)] += count
        return self.distribution

    def _told(self, name: Hashable) -> str:
        """Only texts are secrets: a place or a token of a language model is none, whatever the output is called."""
        if type(name) is not str:
            return str(name)
        return REDACTED if self.is_secret else SESSION.recorder.redactor.text(name)


class Streams:
    """Distributions by stream."""

    def __init__(self, around: Mapping[str, tuple[float, float]] | None = None) -> None:
        """``around``: center and spread by stream, of those whose numbers are counted around one."""
        self._around = around or {}
        self._streams: dict[str, _Stream] = {}
        #: Rows that were not looked at, by reason.
        self.skipped: Counter[str] = Counter()

    def found(self) -> dict[str, Distribution]:
        """Of all that was added so far."""
        return {stream.name: stream.whole() for stream in self._streams.values()}

    def centered(self) -> dict[str, Distribution]:
        """As :meth:`found`, with the numbers of each stream around their own center: once, when all have been added."""
        for stream in self._streams.values():
            known = stream.distribution
            stream.distribution = Distribution(*frame_of(stream.numbers))
            stream.distribution.merge_counts(known)
        return self.found()

    def add_numbers(self, stream: str, numbers: Iterable[float]) -> None:
        if found := list(numbers):
            self._to(stream).numbers += found

    def add_names(self, stream: str, names: Iterable[Hashable]) -> None:
        self._to(stream).names += names

    def add(self, kept: Any, name: str = "") -> int:
        """What :func:`looptap.serving.answers.keep` kept of one answer, or of the output of this ``name`` in it. Returns how many
        rows there were."""
        if isinstance(kept, list):
            if kept and _is_scores(kept[0]):
                self._scores(kept, name)
            else:
                for row in kept:
                    self._row(row, name)
            return len(kept)
        if isinstance(kept, Skipped):
            self.skipped[kept.reason] += kept.rows
            return kept.rows
        if isinstance(kept, Later):
            if kept.value is not None:
                return self.add(kept.value, name)
            self.skipped["on a device"] += kept.rows
            return kept.rows
        if isinstance(kept, Part):
            self.skipped["not in the sample"] += kept.rows - self.add(kept.value, name)
            return kept.rows
        if isinstance(kept, Mapping):
            return max([self.add(value, f"{name}{key}.") for key, value in kept.items()], default=1)
        if hasattr(kept, "tolist"):
            return self.add(kept.tolist(), name)
        if hasattr(kept, "numpy"):
            return self.add(keep(kept.numpy()), name)
        self._row(kept, name)
        return 1

    # --- private ------------------------------------------------------------------------------------------------------

    def _row(self, row: Any, name: str) -> None:
        while type(row) is list and len(row) == 1:
            row = row[0]
        kind = type(row)
        if kind is list:
            if _is_scores(row):
                self._scores([row], name)
            else:
                self._numbers(row, name)
        elif kind is float:
            self._to(f"{name}value").numbers.append(row)
        elif kind is int or kind is bool:
            self._to(f"{name}class").names.append(row if kind is int else str(row))
        elif kind is str or kind is bytes:
            self._text(row if kind is str else row.decode("utf-8", "replace"), name)
        elif row is None:
            self._to(f"{name}value").distribution.null += 1
        elif isinstance(row, Mapping | Skipped | Part | Later) or hasattr(row, "tolist") or hasattr(row, "numpy"):
            self.add(row, name)
        else:
            self.skipped["unknown kind"] += 1

    def _scores(self, rows: list[Any], name: str) -> None:
        """Those of an array, which most answers are, at once."""
        classes, confident = self._to(f"{name}class"), list[float]()
        names = classes.names
        for row in rows:
            if not _is_scores(row):
                self._row(row, name)
                continue
            try:
                total = sum(row)
            except TypeError:
                self.skipped["unknown kind"] += 1
                continue
            if not isfinite(total) and any(number != number for number in row):
                classes.distribution.nan += 1
                continue
            greatest = max(row)
            names.append(row.index(greatest))
            if abs(total - 1.0) <= _SUM_TOLERANCE and min(row) >= 0.0:
                confident.append(greatest)
        if confident:
            self._to(f"{name}confidence").numbers += confident

    def _numbers(self, row: list[Any], name: str) -> None:
        numbers = _flat(row)
        if numbers:
            self._to(f"{name}value").numbers += numbers
        else:
            self.skipped["unknown kind"] += 1

    def _text(self, text: str, name: str) -> None:
        classes = self._to(f"{name}class")
        if len(text) <= _NAME_CHARACTERS:
            classes.names.append(text)
        else:
            classes.distribution.other += 1
        self._to(f"{name}length").numbers.append(float(len(text)))

    def _to(self, stream: str) -> _Stream:
        known = self._streams.get(stream)
        if known is None:
            known = _Stream(stream, *self._around.get(stream, _PLAIN))
            # Two names may be the same without what is secret in them.
            known = next((one for one in self._streams.values() if one.name == known.name), known)
            if len(self._streams) < MOST_STREAMS:
                self._streams[stream] = known
            else:
                self.skipped["more outputs than are told apart"] += 1
        return known


def _is_scores(row: Any) -> bool:
    return type(row) is list and len(row) > 1 and type(row[0]) is float


def _flat(row: Any) -> list[float] | None:
    """All numbers in nested lists; None where there is anything else."""
    if isinstance(row, bool | int | float):
        return [float(row)]
    if not isinstance(row, list):
        return None
    found: list[float] = []
    for item in row:
        inner = _flat(item)
        if inner is None:
            return None
        found += inner
    return found
