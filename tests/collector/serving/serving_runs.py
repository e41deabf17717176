"""Runs that train and serve, as agents would have delivered them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from collector.recorded import Recording
from looptap.events import Dataset, Window
from looptap.sketches.distribution import Distribution
from looptap.sketches.histogram import Histogram
from looptap_collector.backend import Backend

SECOND = 10**9
VERSION, NEXT = "ab" * 32, "cd" * 32
#: A day before now, so that spans like the last hour end in it.
NOW_NS = time.time_ns()


def histogram(values: Sequence[float]) -> Histogram:
    made = Histogram()
    made.add(list(values))
    return made


def numbers(values: Sequence[float], frame: tuple[float, float] = (0.0, 1.0)) -> Distribution:
    made = Distribution(*frame)
    made.add_numbers(list(values))
    return made


def classes(**counts: int) -> Distribution:
    made = Distribution()
    for name, count in counts.items():
        made.add_classes([name] * count)
    return made


def window(seconds_ago: float, model: str = "intent", requests: int = 100, *, seed: int = 0, **more: Any) -> Window:
    """Ten seconds of requests that take about 5 ms, whose scores are normally distributed around ``shift``."""
    chance = np.random.default_rng(round(seconds_ago) * 1_000 + seed)
    shift = more.pop("shift", 0.0)
    scores = numbers(chance.normal(shift, 1, requests).tolist())
    answers = classes(cat=requests * 6 // 10, dog=requests - requests * 6 // 10)
    total = histogram(chance.gamma(5, 0.001, requests).tolist())
    known: dict[str, Any] = {
        "version": VERSION,
        "endpoint": "POST /predict",
        "requests": requests,
        "latency": {"total": total.encode(), "model": histogram([0.002] * requests).encode()},
        "predictions": {"class": answers.encode(), "score": scores.encode()},
    }
    return Window(model, NOW_NS - round(seconds_ago * SECOND), 10.0, **known | more)


class Serving(Recording):
    """One process that serves; its run begins with it."""

    def __init__(self, backend: Backend, name: str, journal: str | None = None, **more: Any) -> None:
        super().__init__(backend, name, kind="serving", **more)
        self.journal = journal or self.journal

    def windows(self, *told: Window) -> None:
        self.deliver(*told)


def trained(
    backend: Backend, name: str = "calm-otter-12", version: str = VERSION, *, weights: str | None = None, **more: Any
) -> Recording:
    """A training that wrote this version, with data, code and an evaluation."""
    run = Recording(backend, name, **more)
    run.environment(git_commit="0123456789abcdef0123456789abcdef01234567", git_dirty=True)
    run.deliver(
        Dataset("digits", run.start_ns, fingerprint="ef" * 32, algorithm="sha256", covers="content"),
        window(90_000, requests=4_000, seed=1, split="test", version=None, endpoint=""),
        window(90_010, requests=4_000, seed=2, split="validation", version=None, endpoint=""),
        window(90_020, requests=4_000, seed=3, split="validation", version=None, endpoint="", shift=3.0),
    )
    run.artifact("model.pt", kind="model", digest=version, step=500, weights=weights)
    run.end()
    return run
