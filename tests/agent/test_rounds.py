"""Which step a loss belongs to: the rules of a round, told with strings for call sites and optimizers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from looptap.rounds import Rounds


def backward(rounds: Rounds[float], name: str, value: float = 1.0, site: str | None = None) -> None:
    rounds.backward(site or name, name, value)


def test_plain_loop_counts_from_zero() -> None:
    """One optimizer, one loss: step i has the i-th loss."""
    rounds: Rounds[float] = Rounds()
    for step in range(5):
        backward(rounds, "loss", float(step))
        assert rounds.complete("sgd", True) == ({"loss": float(step)}, None)
        assert rounds.step == step


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20))
def test_accumulated_losses_are_summed_from_left_to_right(values: list[float]) -> None:
    """Several backward passes before a step give their sum, in order, in float64."""
    rounds: Rounds[float] = Rounds()
    total = values[0]
    for value in values[1:]:
        total += value
    for value in values:
        backward(rounds, "loss", value)
    found, _ = rounds.complete("sgd", True)
    assert found["loss"] == total or (found["loss"] != found["loss"] and total != total)


def test_step_without_any_loss_counts() -> None:
    """A step before which nothing was backwarded has no loss, but a number."""
    rounds: Rounds[float] = Rounds()
    assert rounds.complete("sgd", True) == ({}, None)
    backward(rounds, "loss", 2.0)
    assert rounds.complete("sgd", True) == ({"loss": 2.0}, None)
    assert rounds.step == 1


def test_discriminator_and_generator_share_the_step() -> None:
    """In a GAN each optimizer steps once per round, and both losses have the round's number."""
    rounds: Rounds[float] = Rounds()
    for step in range(4):
        backward(rounds, "errD_real")
        backward(rounds, "errD_fake")
        assert rounds.complete("D", False) == ({"errD_real": 1.0, "errD_fake": 1.0}, None)
        assert rounds.step == step
        backward(rounds, "errG")
        assert rounds.complete("G", False) == ({"errG": 1.0}, None)
        assert rounds.step == step


def test_critic_that_steps_more_often_opens_rounds() -> None:
    """Five critic steps are five rounds; the generator's step belongs to the last of them."""
    rounds: Rounds[float] = Rounds()
    steps: list[tuple[str, int]] = []
    for _ in range(2):
        for _ in range(5):
            backward(rounds, "loss_C")
            rounds.complete("C", False)
            steps.append(("C", rounds.step))
        backward(rounds, "loss_G")
        rounds.complete("G", False)
        steps.append(("G", rounds.step))
    assert [step for name, step in steps if name == "C"] == list(range(10))
    assert [step for name, step in steps if name == "G"] == [4, 9]


def test_next_fold_goes_on_counting() -> None:
    """A new optimizer that is alone, with a loss from the same place, does not join the last round of its predecessor."""
    rounds: Rounds[float] = Rounds()
    steps = []
    for fold in range(3):
        for _ in range(2):
            backward(rounds, "loss")
            values, apart = rounds.complete(f"adam of fold {fold}", True)
            assert (values, apart) == ({"loss": 1.0}, None)
            steps.append(rounds.step)
    assert steps == [0, 1, 2, 3, 4, 5]


def test_same_name_from_two_optimizers_is_told_apart_for_good() -> None:
    """Where two optimizers of a round use one name for their losses, the second's are kept apart, from then on always."""
    rounds: Rounds[float] = Rounds()
    for step in range(3):
        backward(rounds, "loss", 1.0, site="line 10")
        assert rounds.complete("D", False) == ({"loss": 1.0}, None)
        backward(rounds, "loss", 2.0, site="line 20")
        assert rounds.complete("G", False) == ({}, {"loss": 2.0})
        assert rounds.step == step
    backward(rounds, "loss", 3.0, site="line 20")
    assert rounds.complete("G", False) == ({}, {"loss": 3.0})


def test_one_backward_for_two_optimizers() -> None:
    """A loss that both an encoder's and a decoder's optimizer descend is written once."""
    rounds: Rounds[float] = Rounds()
    for step in range(3):
        backward(rounds, "loss")
        assert rounds.complete("encoder", False) == ({"loss": 1.0}, None)
        assert rounds.complete("decoder", False) == ({}, None)
        assert rounds.step == step


def test_without_optimizer_a_place_that_comes_again_opens_a_step() -> None:
    """Hand-written updates: two losses of one update share its step."""
    rounds: Rounds[float] = Rounds()
    assert [rounds.backward_is_step(site) for site in ["a", "b", "a", "b", "a"]] == [0, 0, 1, 1, 2]


def test_new_run_counts_from_zero_and_keeps_what_is_pending() -> None:
    """What was backwarded before a run began belongs to its first step."""
    rounds: Rounds[float] = Rounds()
    backward(rounds, "loss")
    rounds.complete("sgd", True)
    backward(rounds, "loss", 7.0)
    rounds.restart()
    assert rounds.complete("sgd", True) == ({"loss": 7.0}, None)
    assert rounds.step == 0


@given(st.lists(st.sampled_from(["D", "G", "E"]), max_size=60))
def test_no_optimizer_steps_twice_in_a_round(order: list[str]) -> None:
    """Whatever the order, steps never go back, never skip a number, and none holds an optimizer twice."""
    rounds: Rounds[float] = Rounds()
    seen: set[tuple[str, int]] = set()
    last = 0
    for optimizer in order:
        backward(rounds, f"loss{optimizer}")
        values, apart = rounds.complete(optimizer, False)
        assert values == {f"loss{optimizer}": 1.0}
        assert apart is None
        assert (optimizer, rounds.step) not in seen
        assert rounds.step in (last, last + 1)
        seen.add((optimizer, rounds.step))
        last = rounds.step
