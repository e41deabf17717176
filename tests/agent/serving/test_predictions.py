"""Answers of every kind, as streams."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from looptap.serving.answers import MOST_ROWS, Skipped, keep, keep_question, rows_of, shape_of
from looptap.serving.predictions import Streams


def told(*answers: Any) -> tuple[dict[str, Any], dict[str, int], list[int]]:
    """Of each stream its classes, or its numbers by count and median; what was skipped; the rows of each answer."""
    streams = Streams()
    rows = [streams.add(keep(answer)) for answer in answers]
    found: dict[str, Any] = {}
    for name, one in streams.found().items():
        found[name] = dict(one.classes) or (len(one.numbers), one.numbers.quantile(0.5), one.nan, one.null)
    return found, dict(streams.skipped), rows


@pytest.mark.parametrize("array", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_rows_of_probabilities(array: Any) -> None:
    found, skipped, rows = told(array([[0.1, 0.7, 0.2], [0.6, 0.2, 0.2]]), array([[0.0, 0.0, 1.0]]))
    assert found["class"] == {"1": 1, "0": 1, "2": 1}
    assert found["confidence"][0] == 3
    assert found["confidence"][1] == pytest.approx(0.7, rel=0.011)
    assert (skipped, rows) == ({}, [2, 1])


@pytest.mark.parametrize("array", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_scores_have_a_class_and_no_confidence(array: Any) -> None:
    found, _, _ = told(array([[-3.0, 2.0], [5.0, 1.0]]), array([[math.nan, 1.0]]))
    assert found == {"class": {"1": 1, "0": 1}}
    rows = [[math.nan, 1.0], [1.0, math.nan], [math.inf, 1.0]]
    streams = Streams()
    streams.add(keep(array(rows)))
    found = streams.found()
    assert (found["class"].nan, found["class"].classes) == (2, {"0": 1})


@pytest.mark.parametrize(
    ("answer", "streams"),
    [
        (3.5, {"value": (1, 3.5, 0, 0)}),
        (7, {"class": {"7": 1}}),
        (True, {"class": {"True": 1}}),
        ("spam", {"class": {"spam": 1}, "length": (1, 4.0, 0, 0)}),
        (None, {"value": (0, None, 0, 1)}),
        (math.nan, {"value": (0, None, 1, 0)}),
        ([], {}),
        (np.float64(2.0), {"value": (1, 2.0, 0, 0)}),
        (torch.tensor(4), {"class": {"4": 1}}),
        (np.array([[1.5], [1.5]]), {"value": (2, 1.5, 0, 0)}),
        (np.array([1, 2, 2]), {"class": {"1": 1, "2": 2}}),
        (["a", "b"], {"class": {"a": 1, "b": 1}, "length": (2, 1.0, 0, 0)}),
        (
            {"label": "POS", "score": 0.5},
            {"label.class": {"POS": 1}, "label.length": (1, 3.0, 0, 0), "score.value": (1, 0.5, 0, 0)},
        ),
        ([{"score": 0.5}, {"score": 0.5}], {"score.value": (2, 0.5, 0, 0)}),
        (np.full((2, 2, 2), 2.0), {"value": (8, 2.0, 0, 0)}),
        (torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16), {"class": {"1": 1}}),
    ],
)
def test_kinds(answer: Any, streams: dict[str, Any]) -> None:
    assert told(answer)[0] == streams


@dataclass
class Output:
    logits: Any
    loss: Any = None


def test_named_outputs() -> None:
    """As those of Transformers are."""
    assert told(Output(torch.tensor([[1.0, 9.0]])))[0] == {"logits.class": {"1": 1}}


def test_what_is_not_looked_at_is_counted() -> None:
    found, skipped, rows = told(object(), np.zeros((2, 100_000)), torch.empty(3, 2, device="meta"))
    assert found == {}
    assert skipped == {"unknown kind": 1, "too large": 2, "on a device": 3}
    assert rows == [1, 2, 3]


def test_some_rows_of_many() -> None:
    """Evenly spread, so that what is sorted is not taken for its beginning."""
    found, skipped, rows = told(np.arange(1000), list(range(500)))
    looked_at = sum(found["class"].values())
    assert MOST_ROWS < looked_at <= 2 * MOST_ROWS
    assert {"992", "496", "0"} <= set(found["class"])
    assert skipped == {"not in the sample": 1500 - looked_at}
    assert rows == [1000, 500]


@pytest.mark.parametrize("length", [3, 64, 65, 500])
@pytest.mark.parametrize("array", [np.array, torch.tensor, list])
def test_what_changes_after_the_answer_is_not_seen(array: Any, length: int) -> None:
    answer = array([1] * length)
    kept = keep(answer)
    for place in range(length):
        answer[place] = 9
    streams = Streams()
    streams.add(kept)
    assert set(streams.found()["class"].classes) == {"1"}


def test_gradients_and_long_texts() -> None:
    found, _, _ = told(torch.tensor([0.5], requires_grad=True), "x" * 500)
    assert found["value"] == (1, 0.5, 0, 0)
    assert found["length"][0] == 1
    assert "class" not in {name for name, one in found.items() if isinstance(one, dict)}


def test_more_outputs_than_are_told_apart() -> None:
    streams = Streams()
    for index in range(40):
        streams.add(keep({f"output {index}": 1.0}))
    assert len(streams.found()) == 16
    assert sum(streams.skipped.values()) == 24


def test_objects_that_raise_are_left_alone() -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __len__(self) -> int:
            raise RuntimeError("len")

    assert isinstance(keep(Hostile()), Skipped)
    assert isinstance(keep([Hostile()])[0], Skipped)


def test_shapes() -> None:
    asked = [np.zeros((5, 3, 2), np.float32), torch.zeros(5, 3), torch.tensor(1), [1, 2], 3, np.float32(1)]
    kept = [keep_question(one) for one in asked]
    assert [shape_of(one) for one in kept] == ["float32[*, 3, 2]", "float32[*, 3]", "int64[]", None, None, "float32[]"]
    assert [rows_of(one) for one in kept] == [5, 5, 1, 2, None, 1]


def test_secrets_are_no_classes() -> None:
    """Neither by the name of the output nor by the look of the text; how many there were is counted."""
    token = "ghp_" + "a1" * 18
    other = "ghp_" + "b2" * 18
    found, skipped, rows = told(
        {"text": f"see {token}", "outer": {"api_key": "hunter2"}, token: 1, other: 1, "token": 7}, {"text": "fine"}
    )
    assert found["text.class"] == {"see [redacted]": 1, "fine": 1}
    assert found["outer.api_key.class"] == {"[redacted]": 1}
    assert found["[redacted].class"] == {"1": 2}
    assert found["token.class"] == {"7": 1}
    assert "hunter2" not in str(found)
    assert token not in str(found)
    assert (skipped, rows) == ({}, [1, 1])
