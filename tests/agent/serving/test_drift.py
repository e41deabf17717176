"""Answers of a served model held against what its evaluation saw."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from looptap.alerts.latch import Change
from looptap.events import Window
from looptap.serving import drift
from looptap.serving.answers import keep
from looptap.serving.drift import Drifts, Reference
from looptap.serving.model import Model
from looptap.serving.reference import Batch, Sample, reference
from looptap.serving.traffic import ModelCall, Request
from looptap.serving.windows import Windows

DIGEST = "ab" * 32


def evaluated(scores: torch.Tensor) -> Reference:
    sample = Sample()
    for batch in scores.split(64):
        if sample.wants_next():
            sample.add(Batch(keep(batch), [], "softmax"))
    return Reference("r1", "calm-otter-12", "validation", reference(sample, "validation", 1).predictions)


def drifts(found: Reference | Exception | None, notes: list[str]) -> Drifts:
    def find(fingerprints: tuple[str, ...]) -> Reference | None:
        assert fingerprints == (DIGEST,)
        if isinstance(found, Exception):
            raise found
        return found

    return Drifts(find, notes.append)


def model() -> Model:
    made = Model("intent")
    made.digest = DIGEST
    return made


def until(condition: Callable[[], Any]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + 20
        time.sleep(0.005)


def windows_of(asked: Model, scores: torch.Tensor) -> list[Window]:
    windows = Windows()
    windows.begin(0)
    for row in scores:
        request, call = Request(), ModelCall(asked)
        request.begun, request.ended, call.begun, call.ended = 0, 1, 0, 1
        call.answer = keep(torch.softmax(row[None], 1))
        request.calls.append(call)
        windows.count(request)
    return windows.close([])


def served(watching: Drifts, asked: Model, scores: torch.Tensor) -> list[Change]:
    """In windows of 200 answers."""
    return [change for some in scores.split(200) for change in watching.see(windows_of(asked, some))]


def test_a_drift_is_told_once_and_taken_back() -> None:
    chance = torch.Generator().manual_seed(0)
    good, shifted = (torch.randn(8_000, 3, generator=chance) for _ in range(2))
    shifted[:, 0] += 1.0
    notes: list[str] = []
    watching, asked = drifts(evaluated(good), notes), model()
    watching.look_for(asked)
    until(lambda: watching.look_for(asked) or asked.around)  # type: ignore[func-returns-value]
    again = torch.randn(6_000, 3, generator=chance)
    assert served(watching, asked, again) == []
    told = {(one.key, one.state): one for one in served(watching, asked, shifted)}
    fired = told["intent@abababababab.class", "fired"]
    assert fired.message.startswith(
        "predictions of intent (version abababababab, trained by calm-otter-12) have drifted from its validation: class, PSI "
    )
    assert (fired.kind, fired.severity) == ("drift", "warning")
    assert ("intent@abababababab.class", "recovered") in {
        (one.key, one.state) for one in served(watching, asked, again)
    }
    assert notes == []


def test_what_was_counted_before_the_reference_was_known() -> None:
    """Has other centers, and is left out where numbers are compared."""
    chance = torch.Generator().manual_seed(0)
    scores = torch.randn(8_000, 3, generator=chance)
    watching, asked = drifts(evaluated(scores), []), model()
    watching.look_for(asked)
    until(lambda: watching.look_for(asked) or asked.around)  # type: ignore[func-returns-value]
    early = model()
    windows = [windows_of(one, torch.randn(200, 3, generator=chance))[0] for one in (early, asked)]
    assert list(watching.see(windows)) == []


def test_no_reference() -> None:
    for found, note in (
        (None, "no evaluation of a training run is known of the model abababababab"),
        (OSError("it is away"), "the store cannot be asked for a reference: it is away"),
    ):
        notes: list[str] = []
        watching, asked = drifts(found, notes), model()
        watching.look_for(asked)
        until(partial(len, notes))
        watching.look_for(asked)
        assert note in notes[0]
        assert served(watching, asked, torch.zeros(400, 3)) == []


def test_the_store_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was away when the server started, or the evaluation came later."""
    monkeypatch.setattr(drift, "AGAIN_SECONDS", 0.01)
    answers: list[Any] = [OSError("away"), None, evaluated(torch.randn(500, 3))]

    def find(fingerprints: tuple[str, ...]) -> Reference | None:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    asked, notes = model(), list[str]()
    watching = Drifts(find, notes.append)

    def look() -> object:
        watching.look_for(asked)
        return asked.around

    until(look)
    assert len(notes) == 2
    time.sleep(0.05)
    watching.look_for(asked)
    assert answers == []


def test_unknown_weights_are_not_looked_for() -> None:
    watching = Drifts(lambda fingerprints: pytest.fail("asked"), lambda said: None)
    asked = Model("intent", "7")
    watching.look_for(asked)
    assert served(watching, asked, torch.from_numpy(np.zeros((400, 3)))) == []
