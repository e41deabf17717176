"""Numbers that are owed: what is computed of them is what the host would have computed."""

from __future__ import annotations

from looptap_integrations.torch.readings import Owed, Reading


def owed(*numbers: float | None) -> tuple[list[Owed], Reading]:
    """Parts that are all under way, and their sum."""
    parts = [Owed() for _ in numbers]
    total = Reading((parts[0],))
    for part in parts[1:]:
        total = total + Reading((part,))
    return parts, total


def settle(parts: list[Owed], *numbers: float | None) -> None:
    for part, number in zip(parts, numbers, strict=True):
        part.settle(number)


def test_sums_are_float64_from_left_to_right() -> None:
    """An accumulated loss is the same number as if the host had added it up."""
    parts, total = owed(0, 0, 0)
    settle(parts[:2], 0.1, 0.2)
    before = total.is_settled
    settle(parts[2:], 0.3)
    assert (before, total.is_settled) == (False, True)
    assert total.number == 0.1 + 0.2 + 0.3
    assert (1.0 + total).number == 1.0 + 0.1 + 0.2 + 0.3
    assert (total + 1.0).number == 0.1 + 0.2 + 0.3 + 1.0


def test_long_accumulation_stays_short() -> None:
    """What has arrived becomes one number, in the same order of additions."""
    total, expected = Reading((0.1,)), 0.1
    for _ in range(10_000):
        part = Owed()
        total = total + Reading((part,))
        part.settle(0.1)
        expected += 0.1
    assert total.number == expected
    assert len(total._parts) <= 3


def test_what_is_added_to_later_does_not_change_what_was_before() -> None:
    """A backward pass that fails is taken back: the sum before it is still there."""
    parts, before = owed(0, 0)
    settle(parts, 1.0, 2.0)
    assert (before + 4.0).number == 7.0
    assert before.number == 3.0


def test_lost_part_loses_the_sum() -> None:
    """No number is made up of the parts that are left."""
    parts, total = owed(0, 0, 0)
    settle(parts, 1.0, None, 3.0)
    assert total.is_settled
    assert total.number is None
    assert (total + 4.0).number is None
    assert (2.0 + total).number is None
    assert (total / 2.0).number is None


def test_quotients() -> None:
    """The loss before scaling, where only the scaled one is known."""
    (above, below), _ = owed(0, 0)
    quotient = Reading((above,)) / Reading((below,))
    above.settle(6.0)
    assert not quotient.is_settled
    below.settle(4.0)
    assert quotient.number == 1.5
    assert (Reading.of(1.0) / 0.0).number is None
