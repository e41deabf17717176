"""A training that stands still, told from one that is slow, pauses, validates or is over."""

from __future__ import annotations

from looptap.alerts.steps import (
    STALL_FLOOR_IN_VALIDATION_SECONDS,
    STALL_FLOOR_SECONDS,
    STALL_LONGEST_PAUSE_SECONDS,
    Stall,
)


def stall(seconds: float = 1.0, steps: int = 20) -> Stall:
    """So many steps, so far apart; the last one at 0."""
    found = Stall()
    for step in range(steps):
        at = (step - steps + 1) * seconds
        assert found.step(step, at, at) is None
    return found


def test_fires_once_and_recovers_with_a_step() -> None:
    found = stall()
    assert found.look(STALL_FLOOR_SECONDS) is None
    change = found.look(STALL_FLOOR_SECONDS + 1, where=lambda: ", in train.py:3 main")
    assert change is not None
    assert (change.state, change.severity, change.step) == ("fired", "critical", 19)
    assert (change.value, change.threshold) == (STALL_FLOOR_SECONDS + 1, STALL_FLOOR_SECONDS)
    assert change.message == "no step for 61 s, since step 19, in train.py:3 main"
    assert found.look(10_000) is None
    over = found.step(20, 200, 200)
    assert over is not None
    assert (over.state, over.message, over.step) == ("recovered", "step 20 came after 200 s", 20)


def test_steps_that_are_not_all_recorded() -> None:
    """Each hundredth only, two seconds a step: the time of a step is what counts."""
    found = Stall()
    for heard, step in enumerate((0, 100, 200)):
        assert found.step(step, 2.0 * step, float(heard)) is None
    assert found.limit() == STALL_FLOOR_SECONDS


def test_slow_steps() -> None:
    """Ten times the median: of steps of 20 s it is no stall after three minutes."""
    found = stall(20)
    assert found.look(199) is None
    assert found.look(201) is not None


def test_one_slow_step_does_not_count() -> None:
    """The median is that of a step; a step number that jumps was several."""
    found = stall(1)
    assert found.step(30, 11, 11) is None
    assert found.limit() == STALL_FLOOR_SECONDS


def test_pauses_that_it_has_made_before() -> None:
    """Twice the longest, up to half an hour."""
    found = stall()
    found.step(20, 100, 100)
    assert found.look(100 + 199) is None
    assert found.look(100 + 201) is not None
    found.step(21, 1e6, 1e6)
    assert found.limit() == 2 * STALL_LONGEST_PAUSE_SECONDS


def test_before_the_second_step_nobody_knows() -> None:
    found = stall(steps=1)
    assert found.limit() is None
    assert found.look(1e9) is None
    assert Stall().look(1e9) is None


def test_validation() -> None:
    """A pass that is known to be one may take its time, but not for ever."""
    found = stall()
    assert found.look(STALL_FLOOR_IN_VALIDATION_SECONDS - 1, is_validating=True) is None
    assert found.look(STALL_FLOOR_IN_VALIDATION_SECONDS + 1, is_validating=True) is not None


def test_a_training_that_is_over() -> None:
    """Whoever knows says so; it is asked only when it is time."""
    found = stall()

    def asked() -> str:
        raise AssertionError("too early")

    assert found.look(10, where=asked) is None
    assert found.look(1_000, where=lambda: None) is None
    assert found.look(1_000, where=lambda: "") is not None
