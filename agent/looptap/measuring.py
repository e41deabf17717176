"""What a metric of a library returns, as series: their names, and one number each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import FrameType
from typing import Any

from looptap.assigning import assigned_name
from looptap.events import Context
from looptap.recorder import Recorder
from looptap.splits import split_in, without_split

#: A vector of more numbers than this is not one number per class.
_CLASSES = 100
#: Names that say nothing of what was measured.
_EMPTY = {"", "_", "out", "output", "r", "res", "result", "results", "ret", "v", "val", "value", "values", "x", "y"} | {
    f"{word}{end}" for word in ("metric", "score", "measure", "number") for end in ("", "s")
}


def snake_case(name: str) -> str:
    """``MulticlassF1Score`` → ``multiclass_f1_score``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def has_one_number(value: Any) -> bool:
    """Whether this is a number or an array of one element, as far as can be told without looking into it. Text is none."""
    if isinstance(value, (bool, int, float)):
        return True
    shape = getattr(value, "shape", None)
    if shape is None or not hasattr(value, "dtype"):
        return False
    count = 1
    for size in tuple(shape):
        count *= size
    return count == 1


def numbers_in(values: Mapping[Any, Any], prefix: str = "", separator: str = ".") -> dict[str, Any]:
    """Of a dict of anything, what has one number in it; dicts inside become longer keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= numbers_in(value, f"{prefix}{key}{separator}", separator)
        elif has_one_number(value):
            found[f"{prefix}{key}"] = value
    return found


def log_measured(record: Recorder, value: Any, name: str, frame: FrameType | None, source: str) -> None:
    """Log what a metric has returned to the call that ``frame`` stands at.

    Its series is named by the variable that the program assigns it to, else ``name``. It lies in the split that the variable names,
    or in that of the pass over the data which is under way (``validation/accuracy``). A dict is one per key, a vector one per class.
    """
    variable = assigned_name(frame)
    split = split_in(variable.name or "") or record.split()
    if variable.name is not None and not variable.is_added:
        own = variable.name if split == "train" else without_split(variable.name)
        if own.lower() not in _EMPTY and not isinstance(value, Mapping):
            name = own
    prefix = f"{split}/" if split in ("validation", "test") else ""
    if not isinstance(value, Mapping):
        value = {name: value}
    _log_each(record, value, prefix, source)


def _log_each(record: Recorder, values: Mapping[Any, Any], prefix: str, source: str) -> None:
    for key, item in values.items():
        if isinstance(item, Mapping):
            _log_each(record, item, f"{prefix}{key}.", source)
        else:
            _log(record, f"{prefix}{key}", item, source)


def _log(record: Recorder, key: str, value: Any, source: str) -> None:
    if has_one_number(value):
        record.log_metrics({key: value}, source=source)
        return
    shape = getattr(value, "shape", None)
    if shape is not None and len(shape) == 1 and 1 < shape[0] <= _CLASSES:
        for index in range(shape[0]):
            context: Context = {"class": str(index)}
            record.log_metrics({key: value[index]}, context=context, source=source)
    elif value is not None:
        record.note(source, f"{key} is left out: it is neither a number nor one number per class")
