"""Words that name a split of the data."""

from __future__ import annotations

import pytest

from looptap.splits import is_evaluation, split_in, without_split


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("val_loader", "validation"),
        ("valid_dl", "validation"),
        ("valloader", "validation"),
        ("validationSet", "validation"),
        ("dev", "validation"),
        ("validate", "validation"),
        ("test_loader", "test"),
        ("testset", "test"),
        ("TestData", "test"),
        ("train_loader", "train"),
        ("trainloader", "train"),
        ("train_and_test", None),
        ("value_loader", None),
        ("latest", None),
        ("evaluate", None),
        ("loader", None),
        ("device", None),
    ],
)
def test_split_in(name: str, split: str | None) -> None:
    assert split_in(name) == split


def test_evaluation() -> None:
    """Is none of the three by itself."""
    assert is_evaluation("evaluate_model")
    assert not is_evaluation("eval_test")
    assert not is_evaluation("retrieval")


def test_without_split() -> None:
    assert [without_split(name) for name in ("val_loss", "loss_test", "test", "recon", "eval_kl")] == [
        "loss",
        "loss",
        "",
        "recon",
        "kl",
    ]
