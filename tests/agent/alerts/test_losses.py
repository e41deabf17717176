"""Which series are losses, and losses that go up."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest

from looptap.alerts.latch import Change
from looptap.alerts.losses import BLOCK_VALUES, Diverging, is_loss, is_of_training


def changes(rule: Diverging, values: Iterable[float]) -> list[Change]:
    return [change for step, value in enumerate(values) if (change := rule.see(value, step)) is not None]


def falling(blocks: int, first: float = 2.0, last: float = 0.2) -> list[float]:
    """With a bit of scatter."""
    count = blocks * BLOCK_VALUES
    return [first + (last - first) * step / count + 0.01 * math.cos(step) for step in range(count)]


def level(value: float, blocks: int) -> list[float]:
    return [value + 0.01 * math.cos(step) for step in range(blocks * BLOCK_VALUES)]


def test_a_loss_that_goes_up() -> None:
    """To more than half of what it had gained, for two blocks; it recovers when it is down again."""
    found = changes(Diverging("loss"), [*falling(6), *level(1.6, 3), *level(0.2, 2), *level(1.6, 2)])
    assert [change.state for change in found] == ["fired", "recovered", "fired"]
    assert found[0].severity == "warning"
    assert found[0].step == 8 * BLOCK_VALUES - 1
    assert found[0].value == pytest.approx(1.6, abs=0.02)
    assert found[0].threshold == pytest.approx(1.1, abs=0.02)


@pytest.mark.parametrize(
    "values",
    [
        falling(10),
        [*falling(6), *level(1.0, 4)],  # less than half of what it had gained
        [*falling(6), *level(1.6, 1), *level(0.3, 3)],  # one block only
        [*falling(6), *([0.2] * 20 + [1e6] * 20 + [0.2] * 10) * 4],  # spikes
        level(0.5, 10),
        [2.0] * 500,
        [value * 1e-9 for value in falling(8)],
        [step / 1_000 for step in range(BLOCK_VALUES)],  # too short to say
    ],
)
def test_a_loss_that_is_fine(values: list[float]) -> None:
    assert changes(Diverging("loss"), values) == []


def test_a_loss_that_scatters() -> None:
    """One that goes up by less than ten times its scatter is no wonder, where it had gained little."""

    def noisy(value: float, blocks: int, scatter: float) -> list[float]:
        return [value + scatter * (-1) ** step for step in range(blocks * BLOCK_VALUES)]

    for scatter, count in ((0.05, 1), (0.2, 0)):
        values = [*noisy(2.0, 1, scatter), *noisy(1.5, 3, scatter), *noisy(2.9, 3, scatter)]
        assert len(changes(Diverging("loss"), values)) == count, scatter


def test_below_zero() -> None:
    """Objectives may be negative."""
    values = [value - 100 for value in [*falling(6, 50, -50), *level(20, 4)]]
    assert [change.state for change in changes(Diverging("elbo"), values)] == ["fired"]


def test_nan_is_none_of_its_business() -> None:
    values = [*falling(6), *level(1.6, 3)]
    odd = [item for value in values for item in (value, math.nan)]
    assert len(changes(Diverging("loss"), odd)) == 1


@pytest.mark.parametrize("key", ["loss", "errD_real", "train/nll_loss", "validation/loss", "mse", "cost"])
def test_losses(key: str) -> None:
    assert is_loss(key)
    assert is_of_training(key, {}) is (key != "validation/loss")


@pytest.mark.parametrize(
    "key", ["accuracy", "lr", "loss_scale", "amp_loss_scale", "step_time", "loss.weight", "grad_norm"]
)
def test_no_losses(key: str) -> None:
    assert not is_loss(key)


def test_phases() -> None:
    assert is_of_training("loss", {"phase": "train", "rank": "1"})
    assert not is_of_training("loss", {"phase": "validation"})
