"""Which records are shown to which rule."""

from __future__ import annotations

import math
from typing import Any

from looptap.alerts.latch import Change
from looptap.alerts.machine import IDLE_SECONDS
from looptap.alerts.not_finite import FINITE_AGAIN_VALUES
from looptap.alerts.watch import Watch
from looptap.events import Points


def shown(watch: Watch, *rows: tuple[int, dict[str, float]], context: dict[str, str] | None = None) -> list[Change]:
    """Steps with their values, a second apart."""
    found: list[Change] = []
    for step, values in rows:
        found += watch.see(Points(step, step * 10**9, values, context or {}), float(step))
    return found


def test_a_loss_and_its_gradients() -> None:
    """A loss that is NaN is told when its step is complete, with the norms that came after it."""
    watch = Watch()
    assert (
        shown(watch, (0, {"loss": 1.0, "grad_norm": 1.0}), (1, {"loss": math.nan}), (1, {"grad_norm": math.inf})) == []
    )
    (change,) = shown(watch, (2, {"loss": math.nan}))
    assert change.message == "loss is NaN since step 1; the gradient norm is not finite since step 1"
    assert change.step == 1


def test_the_last_step() -> None:
    """Nothing may follow it: then it is complete when somebody says so."""
    watch = Watch()
    assert shown(watch, (0, {"loss": math.nan})) == []
    assert [change.message for change in watch.complete()] == ["loss is NaN since step 0"]
    assert watch.complete() == []


def test_gradients_of_several_groups() -> None:
    """The program clips twice a step: which of the two was it."""
    watch = Watch()
    for step, values in enumerate([(1.0, 2.0), (1.0, math.nan), (1.0, math.nan)]):
        shown(watch, (step, {"grad_norm": values[0]}))
        shown(watch, (step, {"grad_norm": values[1]}), context={"call": "1"})
    shown(watch, (2, {"loss": math.nan}))
    (change,) = watch.complete()
    assert (
        change.message
        == "loss is NaN since step 2; gradient norm not finite of clipping call 1 since step 1, finite of 0"
    )


def test_one_alert_for_all_that_follows() -> None:
    """In each context, validation too; what is no loss may be NaN."""
    watch = Watch()
    shown(watch, (0, {"loss": 1.0, "validation/loss": math.nan, "accuracy": math.nan}))
    shown(watch, (0, {"loss": math.nan, "batch_loss": math.nan}), context={"phase": "test"})
    (change,) = watch.complete()
    assert change.message == "validation/loss is NaN since step 0, and 2 other losses with it"
    shown(watch, (5, {"loss": 1.0}), (6, {"loss": math.nan}))
    assert [change.message for change in watch.complete()] == ["loss is NaN since step 6"]


def test_finite_again() -> None:
    """Both losses of the step, which had one alert, have one end."""
    watch = Watch()
    values = [1.0, math.nan, *[1.0] * FINITE_AGAIN_VALUES]
    found = shown(watch, *((step, {"batch_loss": value, "loss": value}) for step, value in enumerate(values)))
    assert [(change.state, change.key) for change in found] == [("fired", "batch_loss"), ("recovered", "batch_loss")]


def test_losses_that_fight_each_other() -> None:
    """Whether a loss diverges is asked where it is the only one."""

    def diverges(**more: float) -> list[str]:
        watch = Watch()
        rows = [(step, {"loss": 2.0 - step / 200 if step < 300 else 5.0, **more}) for step in range(600)]
        return [change.kind for change in shown(watch, *rows)]

    assert diverges() == ["diverging"]
    assert diverges(accuracy=1.0) == ["diverging"]
    assert diverges(loss_d=1.0) == []


def test_steps_are_those_of_the_training() -> None:
    """Samples of the machine are none, nor is a value of an earlier step."""
    watch = Watch()
    shown(watch, (0, {"loss": 1.0}), (5, {"loss": 1.0}), (100, {"system.cpu.utilization": 1.0}), (3, {"late": 1.0}))
    assert watch.stall.last_step == 5


def test_the_machine() -> None:
    """Memory, disk and GPUs by their names."""
    watch = Watch()
    used: dict[str, float] = {"system.gpu.0.memory_used_by_run": 1.0, "system.gpu.0.power": 300.0}
    full: dict[str, Any] = {
        "system.memory.percent": 96.0,
        "system.container.memory_percent": 96.0,
        "system.disk.percent": 99.0,
    }
    found = shown(watch, (0, {**used, **full, "system.swap.used": 99.0}))
    assert [(change.kind, change.key) for change in found] == [
        ("memory", "system.memory.percent"),
        ("memory", "system.container.memory_percent"),
        ("disk", "system.disk.percent"),
    ]
    idle = [(step, {"system.gpu.0.utilization": 0.0}) for step in range(int(IDLE_SECONDS) + 2)]
    assert [change.kind for change in shown(watch, *idle)] == ["gpu_idle"]


def test_a_large_machine() -> None:
    """What is left in bytes is taken into account, of disk and memory."""
    watch = Watch()
    left = {"system.memory.available": 2.0**35, "system.disk.free": 2.0**40}
    full = {"system.memory.percent": 99.0, "system.disk.percent": 99.0}
    assert shown(watch, (0, {**left, **full}), (1, {**left, **full})) == []
    assert [one.kind for one in shown(watch, (2, {**dict.fromkeys(left, 1.0), **full}))] == ["memory", "disk"]


def test_steps_that_others_wait_for() -> None:
    """Are timed from when this process has joined them, whatever was recorded before."""
    watch = Watch()
    row = {"loss": 1.0, "time.forward": 0.25, "step_time": 1.0}
    shown(watch, (0, row), (1, row))
    assert watch.pace.take(1.0) is None
    for _ in range(2):
        watch.join()
        shown(watch, (2, row), (3, row))
    pace = watch.pace.take(1.0)
    assert pace is not None
    assert (pace.seconds, pace.whole) == (0.25, 1.0)


def test_one_process_of_a_host_watches_the_machine() -> None:
    assert shown(Watch(is_first_on_host=False), (0, {"system.memory.percent": 99.0})) == []
