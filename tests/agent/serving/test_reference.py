"""What an evaluation leaves for serving to be compared with."""

from __future__ import annotations

import math
import random
import threading
from typing import Any

import numpy as np
import pytest
import torch

from looptap.events import Window
from looptap.serving.answers import MOST_ROWS, keep
from looptap.serving.reference import MOST_BATCHES, Batch, References, Sample, reference
from looptap.sketches import distribution
from looptap.sketches.distribution import Distribution


def no_note(source: str, message: str) -> None:
    raise AssertionError(f"{source}: {message}")


def window_of(
    batches: list[tuple[Any, Any]], link: str = ""
) -> tuple[dict[str, Distribution], dict[str, Distribution]]:
    sample = Sample()
    for predicted, labels in batches:
        if sample.wants_next():
            sample.add(Batch(keep(predicted), keep(labels), link))
    made = reference(sample, "validation", 5)
    assert (made.split, made.time_ns, made.requests) == ("validation", 5, len(batches))
    return tuple(
        {name: distribution.decode(one) for name, one in told.items()} for told in (made.predictions, made.labels)
    )  # type: ignore[return-value]


def test_scores_of_classes() -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(50, 3), torch.randint(0, 3, (50,))
    predictions, truth = window_of([(scores, labels)], "softmax")
    assert predictions["class"].classes == {
        str(place): count for place, count in enumerate(torch.bincount(scores.argmax(1)).tolist())
    }
    assert truth["class"].classes == {str(place): count for place, count in enumerate(torch.bincount(labels).tolist())}
    confidence = torch.softmax(scores, 1).amax(1)
    assert predictions["confidence"].numbers.mean == pytest.approx(confidence.mean().item(), rel=1e-5)
    logarithms, _ = window_of([(torch.log_softmax(scores, 1), labels)], "exp")
    assert logarithms["confidence"].numbers.mean == pytest.approx(confidence.mean().item(), rel=1e-5)


def test_one_score() -> None:
    scores = torch.linspace(-2, 2, 41).reshape(-1, 1)
    predictions, _ = window_of([(scores, torch.zeros(41, 1))], "sigmoid")
    assert predictions["value"].numbers.mean == pytest.approx(0.0, abs=1e-6)
    assert predictions["probability"].numbers.max == pytest.approx(1 / (1 + math.exp(-2)))


def test_numbers_are_counted_around_their_own_center() -> None:
    """So that a small shift of large numbers is seen."""
    values = np.random.default_rng(3).normal(1000, 1, 60)
    predictions, truth = window_of([(values, values + 5)])
    found = predictions["value"].numbers
    assert (found.center, found.spread) == (1000.0, 1.0)
    assert truth["value"].numbers.center == 1004.0
    for values in (np.full(9, 3.0), np.array([np.nan, 1.0]), np.array([])):
        constant, _ = window_of([(values, values)])
        assert all((one.numbers.center, one.numbers.spread) == (0.0, 1.0) for one in constant.values())


@pytest.mark.parametrize("count", [1, MOST_BATCHES, MOST_BATCHES + 1, 1000, 12_345])
def test_batches_are_taken_from_all_of_a_pass(count: int) -> None:
    """What is sorted by class has all classes in the sample, each about as often."""
    sample = Sample()
    for number in range(count):
        if sample.wants_next():
            sample.add(Batch(number, None, ""))
    taken = [batch.predicted for batch in sample.kept]
    assert sample.seen == count
    assert min(count, MOST_BATCHES // 2) <= len(taken) <= MOST_BATCHES
    gaps = {later - one for one, later in zip(taken, taken[1:], strict=False)}
    assert len(gaps) <= 1
    assert taken[0] == 0
    assert count - taken[-1] <= max(gaps, default=1)


def test_rows_of_a_sample_are_the_same_of_predictions_and_labels() -> None:
    order = list(range(1000))
    random.Random(1).shuffle(order)
    values = torch.tensor(order)
    predictions, labels = window_of([(values, values.clone())])
    assert predictions["class"].classes == labels["class"].classes
    assert predictions["class"].classes.total() <= MOST_ROWS


def test_of_passes_that_follow_quickly_the_last_one_counts() -> None:
    """Of each split; whoever waits for the end has it then."""
    written: list[Window] = []
    references = References(written.append, no_note)
    for number in range(50):
        for split in ("validation", "test"):
            sample = Sample()
            sample.add(Batch([number], None, ""))
            references.tell(sample, split)
    references.finish()
    assert len(written) < 50
    last = {window.split: window for window in written}
    for split in ("validation", "test"):
        assert distribution.decode(last[split].predictions["class"]).classes == {"49": 1}
        assert last[split].labels == {}


def test_an_odd_prediction_costs_the_reference_alone() -> None:
    """Nothing is printed, nothing is raised, and after three nobody tries again."""
    written: list[Window] = []
    references = References(written.append, no_note)
    references.guard.strict = False
    for _ in range(5):
        sample = Sample()
        sample.add(Batch([[1000.0, 1.0]], [0], "exp"))  # no logarithm of a probability
        references.tell(sample, "validation")
        references.finish()
    assert written == []
    assert references.guard.closed
    assert "OverflowError" in (references.guard.last_error or "")


def test_a_reference_that_is_not_made_in_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the run does not wait for it for ever."""
    monkeypatch.setattr("looptap.serving.reference._SECONDS", 0.05)
    may_end, notes = threading.Event(), list[tuple[str, str]]()

    def write(window: Window) -> None:
        may_end.wait()

    references = References(write, lambda *told: notes.append(told))
    sample = Sample()
    sample.add(Batch([1], None, ""))
    references.tell(sample, "validation")
    references.finish()
    may_end.set()
    assert notes == [("reference", "the last reference is left out: it was not made within 0.05 s of the run's end")]
