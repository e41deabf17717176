"""Weights & Biases, offline: what is on record equals what was logged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import wandb

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration
from looptap_integrations.wandb import WandbIntegration


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def record(offline: None) -> Iterator[Recording]:
    with recorded(TorchIntegration, WandbIntegration) as recording:
        yield recording


@pytest.fixture
def run(record: Recording) -> Iterator[Any]:
    with wandb.init(project="p", config={"lr": 0.1, "net": {"depth": 3}}) as made:
        yield made


def test_numbers_at_the_program_s_steps(record: Recording, run: Any) -> None:
    """wandb.log and run.log, nested, and without what is no number."""
    wandb.log({"loss": 0.5, "text": "a", "histogram": wandb.Histogram([1, 2])}, step=10)
    run.log({"loss": numpy.float32(0.25), "val": {"acc": torch.tensor(0.75)}}, step=20)
    assert record.points == [("loss", 10, 0.5, {}), ("loss", 20, 0.25, {}), ("val.acc", 20, 0.75, {})]


def test_rows_where_no_training_is_seen(record: Recording, run: Any) -> None:
    """commit=False stays in the row."""
    wandb.log({"a": 1.0})
    wandb.log({"a": 2.0}, commit=False)
    wandb.log({"b": 3.0})
    wandb.log({"b": 4.0})
    assert record.points == [("a", 0, 1.0, {}), ("a", 1, 2.0, {}), ("b", 1, 3.0, {}), ("b", 2, 4.0, {})]
    assert run.step == 3


def test_at_the_step_of_the_training(record: Recording, run: Any) -> None:
    """Without a step; and the loss that is on record anyway is one point."""
    weights = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.1)
    losses = []
    for step in range(4):
        optimizer.zero_grad()
        loss = (weights**2).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 2:
            wandb.log({"loss": loss, "weight": weights[0].item()})
    assert record.series("loss") == list(enumerate(losses))
    assert [step for step, _ in record.series("weight")] == [1, 3]


def test_config(record: Recording, run: Any) -> None:
    """What init was given, and each change once."""
    assert record.written == [("lr", 0.1, "wandb"), ("net.depth", 3, "wandb")]
    run.config.epochs = 5
    config: Any = wandb.config
    config.update({"lr": 0.2}, allow_val_change=True)
    wandb.config["batch"] = 8
    assert [(key, value) for key, value, _ in record.written[2:]] == [("epochs", 5), ("lr", 0.2), ("batch", 8)]


def test_begun_before_us() -> None:
    """wandb.log is a bound method by then; the config is read once."""
    with wandb.init(project="p", config={"lr": 0.1}), recorded(WandbIntegration) as record:
        wandb.log({"loss": 0.5}, step=2)
    assert record.series("loss") == [(2, 0.5)]
    assert record.params_by_key() == {"lr": 0.1}


def test_errors_are_the_programs(record: Recording, run: Any) -> None:
    with pytest.raises(TypeError):
        wandb.log({1: 2.0})  # type: ignore[dict-item]
    assert record.points == []
