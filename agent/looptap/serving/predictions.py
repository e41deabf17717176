"""What a model answered, as streams of numbers and classes. The same for serving and for the evaluation in training that it is
compared with.

Of an answer with several numbers a row, ``class`` is the place of the greatest one; where a row is a distribution (none below zero,
a sum of one), ``confidence`` is that number. One number a row is ``value``; a whole number, a bool or a short text is a ``class``;
a text has a ``length``. Named outputs are told apart by their names (``logits.class``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from looptap.serving.answers import Part, Skipped, keep
from looptap.sketches.distribution import Distribution

#: A text up to so many characters may be the name of a class.
_NAME_CHARACTERS = 64
_MOST_STREAMS = 16
#: How far from one the numbers of a distribution may add up to: those of bfloat16 do so.
_SUM_TOLERANCE = 0.02


class Streams:
    """Distributions by stream."""

    def __init__(self) -> None:
        self.found: dict[str, Distribution] = {}
        #: Rows that were not looked at, by reason.
        self.skipped: Counter[str] = Counter()

    def add(self, kept: Any) -> int:
        """What :func:`looptap.serving.answers.keep` kept of one answer. Returns how many rows the answer had."""
        return self._add(kept, "")

    def distribution(self, stream: str) -> Distribution | None:
        """None where there are as many as there may be."""
        known = self.found.get(stream)
        if known is None and len(self.found) < _MOST_STREAMS:
            known = self.found[stream] = Distribution()
        return known

    # --- private ------------------------------------------------------------------------------------------------------

    def _add(self, kept: Any, name: str) -> int:
        if isinstance(kept, Skipped):
            self.skipped[kept.reason] += kept.rows
            return kept.rows
        if isinstance(kept, Part):
            looked_at = self._add(kept.value, name)
            self.skipped["beyond the first rows"] += kept.rows - looked_at
            return kept.rows
        if isinstance(kept, Mapping):
            return max([self._add(value, f"{name}{key}.") for key, value in kept.items()], default=1)
        if hasattr(kept, "tolist") or hasattr(kept, "numpy"):
            kept = _listed(kept)
            if isinstance(kept, Skipped | Part):
                return self._add(kept, name)
        rows = kept if isinstance(kept, list) else [kept]
        self._rows([_listed(row) for row in rows], name)
        return len(rows)

    def _rows(self, rows: list[Any], name: str) -> None:
        by_kind: dict[str, list[Any]] = {}
        for row in rows:
            by_kind.setdefault(_kind(row), []).append(row)
        for kind, some in by_kind.items():
            if kind == "object":
                for row in some:
                    self._add(row, name)
            elif kind == "unknown kind":
                self.skipped[kind] += len(some)
            else:
                for stream, distribution in self._streams(kind, name):
                    _ADD[stream](distribution, some)

    def _streams(self, kind: str, name: str) -> Iterator[tuple[str, Distribution]]:
        for stream in _STREAMS[kind]:
            target = self.distribution(f"{name}{stream.partition(' ')[0]}")
            if target is None:
                self.skipped["more outputs than are told apart"] += 1
            else:
                yield stream, target


def _listed(value: Any) -> Any:
    """An array as nested lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "numpy"):
        return _listed(keep(value.numpy()))
    return value


def _kind(row: Any) -> str:
    while isinstance(row, list) and len(row) == 1:
        row = row[0]
    if row is None:
        return "nothing"
    if isinstance(row, bool | int):
        return "whole number"
    if isinstance(row, float):
        return "number"
    if isinstance(row, str | bytes):
        return "text"
    if isinstance(row, list):
        if row and all(isinstance(item, float) for item in row):
            return "distribution" if _is_distribution(row) else "scores"
        return "numbers" if row and _flat(row) is not None else "unknown kind"
    return "object" if isinstance(row, Mapping | Skipped | Part) else "unknown kind"


def _is_distribution(row: Sequence[float]) -> bool:
    return min(row) >= 0.0 and abs(sum(row) - 1.0) <= _SUM_TOLERANCE


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


def _single(row: Any) -> Any:
    while isinstance(row, list):
        row = row[0]
    return row


def _add_greatest(to: Distribution, rows: list[Any]) -> None:
    whole = [row for row in rows if all(number == number for number in row)]
    to.add_classes(str(row.index(max(row))) for row in whole)
    to.nan += len(rows) - len(whole)


def _add_names(to: Distribution, rows: list[Any]) -> None:
    texts = [_text(_single(row)) for row in rows]
    named = [text for text in texts if len(text) <= _NAME_CHARACTERS]
    to.add_classes(named)
    to.other += len(texts) - len(named)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


#: By kind of a row, the streams that it adds to; what stands behind the name says how.
_STREAMS = {
    "nothing": ("value nothing",),
    "whole number": ("class",),
    "number": ("value",),
    "text": ("class", "length"),
    "distribution": ("class greatest", "confidence"),
    "scores": ("class greatest",),
    "numbers": ("value flat",),
}
_ADD: dict[str, Callable[[Distribution, list[Any]], None]] = {
    "value nothing": lambda to, rows: to.add_null(len(rows)),
    "class": _add_names,
    "value": lambda to, rows: to.add_numbers([_single(row) for row in rows]),
    "length": lambda to, rows: to.add_numbers([float(len(_single(row))) for row in rows]),
    "class greatest": _add_greatest,
    "confidence": lambda to, rows: to.add_numbers([max(row) for row in rows]),
    "value flat": lambda to, rows: to.add_numbers([number for row in rows for number in _flat(row) or ()]),
}
