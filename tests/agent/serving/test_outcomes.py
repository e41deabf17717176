"""Labels that become known later."""

from __future__ import annotations

import contextvars
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

import looptap
from looptap.events import Window
from looptap.serving.model import Model
from looptap.serving.origins import ORIGINS
from looptap.serving.outcomes import identity as named
from looptap.serving.outcomes import outcome
from looptap.serving.traffic import REQUEST, ModelCall, Request
from looptap.serving.windows import Windows
from looptap.sketches import distribution

Counted = Callable[[], list[Window]]


def identity(answer: Any, row: int = 0) -> str | None:
    def answers() -> Any:
        return answer

    looptap.watch(answers, name="intent", version="3")()
    return looptap.prediction_id(row)


@pytest.mark.parametrize(
    ("answer", "row", "predicted"),
    [
        ("spam", 0, "spam"),
        (7, 0, "7"),
        (0.25, 0, 0.25),
        ([0.25, 0.5], 1, 0.5),
        (np.array([[0.1, 0.9], [0.8, 0.2]]), 1, "0"),
        (torch.tensor([[-1.0, 5.0, 2.0]]), 0, "1"),
        (torch.tensor([[2.5]]), 0, 2.5),
        (["a", "b"], 1, "b"),
    ],
)
def test_an_id_says_what_was_predicted(answer: Any, row: int, predicted: Any) -> None:
    told = identity(answer, row)
    assert told is not None
    found = outcome(told, predicted).prediction
    assert (found.model, found.version, found.predicted) == ("intent", "3", predicted)


def test_a_request_has_the_ids_of_its_own_predictions() -> None:
    """A thread of a server has had other requests before; a thread of a pool works for a request that does not see its context."""
    assert identity(1) is not None
    token = REQUEST.set(Request())
    try:
        assert looptap.prediction_id() is None
        contextvars.copy_context().run(identity, 2)
        told = looptap.prediction_id()
        assert told is not None
        assert outcome(told, 2).prediction.predicted == "2"
    finally:
        REQUEST.reset(token)


@pytest.mark.parametrize("answer", [None, object(), {}, [], np.zeros((2, 2, 2))])
def test_what_has_no_id(answer: Any) -> None:
    assert identity(answer) is None
    assert identity([1, 2], 2) is None
    assert identity(3, 1) is None


def counted(pairs: list[tuple[str | None, Any]]) -> Window:
    windows = Windows()
    for told, label in pairs:
        assert told is not None
        windows.outcome(outcome(told, label))
    (window,) = windows.close([])
    return window


def test_classes() -> None:
    """Whether it is told as text, as a number or as an array's number."""
    window = counted(
        [
            (identity(2), 2),
            (identity(2), "2"),
            (identity(2), np.int64(2)),
            (identity(2), 2.0),
            (identity(2), 1),
            (identity("a"), "b"),
        ]
    )
    assert (window.model, window.version, window.requests) == ("intent", "3", 0)
    assert distribution.decode(window.outcomes["correct"]).classes == {"yes": 4, "no": 2}
    assert distribution.decode(window.labels["class"]).classes == {"2": 4, "1": 1, "b": 1}


def test_numbers() -> None:
    window = counted([(identity(0.5), 1.5), (identity(0.5), torch.tensor(0.0))])
    error = distribution.decode(window.outcomes["error"]).numbers
    assert (error.min, error.max) == (-0.5, 1.0)
    assert distribution.decode(window.labels["value"]).numbers.max == 1.5


@pytest.mark.parametrize(("told", "label"), [("", 1), ("nonsense", 1), ("🙂", 1), (None, 1), ("AAAA", 1)])
def test_what_is_no_id_raises_nothing(told: Any, label: Any) -> None:
    looptap.log_outcome(told, label)
    with pytest.raises(ValueError, match="is not the id of a prediction"):
        outcome(told, label)


def test_a_label_that_is_no_number() -> None:
    told = identity(0.5)
    assert told is not None
    looptap.log_outcome(told, "spam")
    with pytest.raises(ValueError, match="str as a label, which is neither a class nor a number"):
        outcome(told, "spam")


def test_the_first_id_has_the_version(tmp_path: Path) -> None:
    """Nobody has read the file yet, which is small; a large one nobody waits for."""
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    for size, digest in ((7, hashlib.sha256(b"weights").hexdigest()), (2**40, None)):
        model = Model("intent")
        array = np.zeros(1)
        ORIGINS.loaded(array, path)
        source = ORIGINS.of(array)
        assert source is not None
        model.source = msgspec.structs.replace(source, size_bytes=size)
        call = ModelCall(model)
        call.answer = 1
        told = named(call, 0, 0)
        assert told is not None
        assert outcome(told, 1).prediction.digest == digest


def test_features(counted: Counted) -> None:
    """Only where they are asked for, by name."""

    def asked(rows: Any) -> None:
        """Answers nothing."""

    watched = looptap.watch(asked, name="m", features=("age", "town"))
    watched({"age": 30.0, "town": "Rome", "secret": 1})
    watched([{"age": 40.0, "town": "Rome"}, {"age": 50.0}])
    watched(np.array([[60.0, 1.0]]))
    watched(np.zeros((1, 3)))
    looptap.watch(asked, name="n")({"age": 1.0})
    found = {one.model: one for one in counted()}
    assert found["n"].features == {}
    features = {name: distribution.decode(told) for name, told in found["m"].features.items()}
    assert (features["age.value"].numbers.min, features["age.value"].numbers.max) == (30.0, 60.0)
    assert features["town.class"].classes == {"Rome": 2}
    assert set(features) == {"age.value", "town.class", "town.length", "town.value"}
