"""Losses that are no number, and the gradients beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from looptap.alerts.latch import Change
from looptap.alerts.not_finite import FINITE_AGAIN_VALUES, Norms, Odd

NAN, INF = math.nan, math.inf


def changes(series: Mapping[str, Sequence[float | None]]) -> list[Change]:
    """Of several losses, step by step; None where one has no value."""
    odd = Odd()
    losses = {key: odd.of(key) for key in series}
    found: list[Change] = []
    for step in range(max(map(len, series.values()))):
        if odd.is_complete_before(step):
            found += odd.complete("")
        for key, values in series.items():
            if step < len(values) and (value := values[step]) is not None:
                change = losses[key].see(value, step)
                found += [change] if change is not None else []
    return found + odd.complete("")


@pytest.mark.parametrize("odd", [NAN, INF, -INF])
def test_the_first_value_that_is_no_number(odd: float) -> None:
    """Is told with its step, once."""
    (change,) = changes({"loss": [1.0, 2.0, odd, odd, 1.0, odd]})
    assert (change.state, change.severity, change.step, change.key) == ("fired", "critical", 2, "loss")
    assert change.message == f"loss is {'NaN' if math.isnan(odd) else 'infinite'} since step 2"
    assert repr(change.value) == repr(odd)


def test_finite_again() -> None:
    """After so many finite values in a row, and then it may fire again."""
    nearly = [NAN, *[1.0] * (FINITE_AGAIN_VALUES - 1), NAN]
    states = [change.state for change in changes({"loss": [*nearly, *[1.0] * FINITE_AGAIN_VALUES, NAN]})]
    assert states == ["fired", "recovered", "fired"]


@pytest.mark.parametrize(("others", "said"), [(1, ", and 1 other loss with it"), (3, ", and 3 other losses with it")])
def test_those_that_follow_in_the_same_step(others: int, said: str) -> None:
    """Are counted in the alert of the first one."""
    odd = [1.0, 1.0, NAN, NAN]
    (change,) = changes({"loss": odd, **{f"loss_{number}": odd for number in range(others)}})
    assert (change.key, change.message) == ("loss", f"loss is NaN since step 2{said}")


def test_those_that_follow_later() -> None:
    """The losses of the next step, of the next validation, the mean of the epoch: no alert, and they are not counted."""
    (change,) = changes(
        {"loss": [1.0, NAN, *[NAN] * 8], "loss_g": [1.0, 1.0, 1.0, *[NAN] * 7], "val_loss": [1.0, *[None] * 7, NAN]}
    )
    assert change.message == "loss is NaN since step 1"


def test_steps_that_are_counted_otherwise() -> None:
    """A loss whose steps are epochs, say, follows, and is not one of the same step."""
    odd = Odd()
    odd.of("loss").see(NAN, 7)
    odd.of("epoch_loss").see(NAN, 0)
    odd.of("loss_g").see(NAN, 7)
    assert [change.message for change in odd.complete("")] == ["loss is NaN since step 7, and 1 other loss with it"]


def test_a_loss_that_was_fine_beside_one_that_was_not() -> None:
    """A metric that never is a number, such as the mean over an empty validation set, hides no loss that becomes NaN later."""
    found = changes({"val_loss": [NAN, *[None] * 8, NAN], "loss": [*[1.0] * 8, NAN, NAN]})
    assert [(change.key, change.step) for change in found] == [("val_loss", 0), ("loss", 8)]


def test_the_end_is_told_of_the_one_that_was_named() -> None:
    """Once; then each may fire again, whichever is the first."""
    again = [1.0] * FINITE_AGAIN_VALUES
    found = changes({"loss": [NAN, *again, 1.0], "loss_g": [NAN, *again, NAN]})
    assert [(change.state, change.key) for change in found] == [
        ("fired", "loss"),
        ("recovered", "loss"),
        ("fired", "loss_g"),
    ]


def test_norms_in_words() -> None:
    """Which of the gradients that the program clips were no numbers, and since when."""
    norms = Norms()
    assert norms.in_words() == ""
    norms.see("0", 1.0, 3)
    assert norms.in_words() == "; the gradient norms that the program clips were finite"
    norms.see("0", INF, 4)
    norms.see("0", NAN, 5)
    assert norms.in_words() == "; the gradient norm is not finite since step 4"
    norms.see("1", 2.0, 5)
    norms.see("2", NAN, 5)
    assert norms.in_words() == "; gradient norm not finite of clipping call 0 since step 4, 2 since step 5, finite of 1"
    norms.see("0", 1.0, 6)
    assert "call 2 since" in norms.in_words()
