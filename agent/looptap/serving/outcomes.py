"""What came of predictions: labels that become known later, in this process or another.

The id of a prediction says by itself which model predicted what; nothing has to be kept until its label comes, which may be weeks
and restarts later. It is no secret and no proof: whoever can send labels can also make ids.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from looptap.plain import number
from looptap.serving.answers import Part, Skipped
from looptap.serving.devices import Later
from looptap.serving.model import Model
from looptap.serving.traffic import ModelCall


class Prediction(msgspec.Struct, array_like=True, frozen=True):
    """One row that a model predicted: a class by its name, or a number."""

    model: str
    version: str | None
    digest: str | None
    predicted: str | float
    time_s: int


class Outcome(msgspec.Struct, frozen=True):
    """A prediction, and what was right."""

    prediction: Prediction
    label: str | float

    @property
    def model(self) -> Model:
        made = Model(self.prediction.model, self.prediction.version)
        made.digest = self.prediction.digest
        return made


def identity(call: ModelCall, row: int, time_s: int) -> str | None:
    """The id of one row of an answer; None where it is neither a class nor a number. An example that is kept of the call has it,
    too."""
    call.settle()
    predicted = _predicted(call.answer, row)
    if predicted is None:
        return None
    model = call.model
    model.read_small_source()
    told = msgspec.msgpack.encode(Prediction(model.name, model.version, model.digest, predicted, time_s))
    id = base64.urlsafe_b64encode(told).decode().rstrip("=")
    if call.kept is not None:
        call.kept.has_id(id, predicted)
    return id


def outcome(identity: str, label: Any) -> Outcome:
    """Raises ValueError for what is no id, and for a label that is none, or no number where one was predicted; in the same words
    for all of one kind."""
    try:
        padded = identity + "=" * (-len(identity) % 4)
        prediction = msgspec.msgpack.decode(base64.urlsafe_b64decode(padded), type=Prediction)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ValueError(f"{type(identity).__name__} that is not the id of a prediction") from error
    if isinstance(prediction.predicted, float):
        return Outcome(prediction, _number(label))
    if isinstance(label, bool | int | str):
        return Outcome(prediction, str(label))
    return Outcome(prediction, str(int(_number(label))))


def _number(label: Any) -> float:
    try:
        return number(label)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{type(label).__name__} as a label, which is neither a class nor a number") from error


def _predicted(kept: Any, row: int) -> str | float | None:
    if isinstance(kept, Later):
        kept = kept.value
    if hasattr(kept, "tolist"):
        kept = kept.tolist()
    if isinstance(kept, Part | Skipped):
        return None
    if isinstance(kept, list):
        if not 0 <= row < len(kept):
            return None
        kept = kept[row]
    elif row:
        return None
    while isinstance(kept, list) and len(kept) == 1:
        kept = kept[0]
    if isinstance(kept, bool | int | str):
        return str(kept)
    if isinstance(kept, float):
        return kept
    if isinstance(kept, list) and kept and all(isinstance(score, float) for score in kept):
        return str(kept.index(max(kept)))
    return None
