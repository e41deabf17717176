"""Traces of torch.profiler between the steps of a training."""

from __future__ import annotations

import gc
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from looptap_integrations.torch import tracing
from looptap_integrations.torch.tracing import MOST_STEPS, Tracing, trace


@pytest.fixture(autouse=True)
def quiet() -> Any:
    gc.collect()  # profilers of the test before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def take(folder: Path, seconds: float, steps: Any, over: threading.Event | None = None) -> tuple[str | None, Any]:
    """``steps`` are made by this thread while another one takes the trace. What that says, and the loop."""
    loop = SimpleNamespace(tracing=None)
    said: list[str | None] = []
    taking = threading.Thread(target=lambda: said.append(trace(loop, str(folder), seconds, over or threading.Event())))
    taking.start()
    while loop.tracing is None and taking.is_alive():
        pass
    steps(loop)
    taking.join()
    return said[0], loop


def step(loop: Any) -> None:
    torch.ones(3).sum()
    if loop.tracing is not None:
        loop.tracing.on_step()


def test_steps_are_bounded(tmp_path: Path) -> None:
    """Short ones do not make a long trace: the profiler is off when enough of them have come, though the time is not over."""

    def steps(loop: Any) -> None:
        for _ in range(MOST_STEPS + 1):
            step(loop)
        assert not torch._C._autograd._profiler_enabled()

    said, loop = take(tmp_path, 60, steps)
    assert (said, loop.tracing) == (None, None)
    assert (tmp_path / "torch.json.gz").stat().st_size > 0


def test_no_step(tmp_path: Path) -> None:
    """Nothing is begun, nothing is left."""
    said, loop = take(tmp_path, 0.2, lambda loop: None)
    assert said == "no step of an optimizer ended within 0 s"
    assert loop.tracing is None
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_comes_too_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step, whenever it comes, ends what one has begun; until then there is no other trace."""
    monkeypatch.setattr(tracing, "_LAST_STEP_SECONDS", 0.1)
    said, loop = take(tmp_path, 0.2, step)
    assert said == "it began, and no step followed that could end it"
    assert torch._C._autograd._profiler_enabled()
    assert trace(loop, str(tmp_path), 0.1, threading.Event()) == "the one before waits for a step to end with"
    step(loop)
    assert not torch._C._autograd._profiler_enabled()
    assert trace(loop, str(tmp_path), 0.1, threading.Event()) == "no step of an optimizer ended within 0 s"
    assert loop.tracing is None


def test_a_program_with_a_profiler_of_its_own(tmp_path: Path) -> None:
    """Keeps it to itself, whether it is running or not."""
    own = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    said, _ = take(tmp_path, 0.2, step)
    assert said == "the program has a profiler of its own"
    del own
    with torch.autograd.profiler.profile():
        said, _ = take(tmp_path, 0.2, step)
    assert said == "the program has a profiler of its own"


def test_a_profiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told; the step does not notice."""

    def start(self: Any) -> None:
        raise RuntimeError("no kineto")

    monkeypatch.setattr(torch.profiler.profile, "start", start)
    said, loop = take(tmp_path, 5, step)
    assert said == "RuntimeError: no kineto"
    assert loop.tracing is None


def test_only_the_thread_that_began_it_ends_it() -> None:
    """Steps of another thread are no part of it."""
    one = Tracing(0.0)
    one.on_step()
    other = threading.Thread(target=one.on_step)
    other.start()
    other.join()
    assert not one.is_over
    one.on_step()
    assert one.is_over
