"""MLflow with a file of its own: what is on record equals what MLflow has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from integrations.recording import Recording, recorded
from looptap_integrations.mlflow import MlflowIntegration
from looptap_integrations.torch import TorchIntegration


@pytest.fixture(scope="module", autouse=True)
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("here", artifact_location=(folder / "files").as_uri())
    mlflow.set_experiment("here")
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration, MlflowIntegration) as recording:
        yield recording


@pytest.fixture
def run(record: Recording) -> Iterator[Any]:
    with mlflow.start_run() as made:
        yield made


def test_metrics(record: Recording, run: Any) -> None:
    """One by one and together, at the program's steps, once."""
    mlflow.log_metric("loss", 0.5, step=10)
    mlflow.log_metrics({"loss": 0.25, "acc": 1}, step=20)
    assert record.points == [("loss", 10, 0.5, {}), ("loss", 20, 0.25, {}), ("acc", 20, 1.0, {})]
    kept = MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert record.series("loss") == [(metric.step, metric.value) for metric in kept]


def test_by_the_client(record: Recording, run: Any) -> None:
    """What the functions go through."""
    client, place = MlflowClient(), run.info.run_id
    client.log_metric(place, "a", 1.0, step=3)
    client.log_batch(place, [Metric("b", 2.0, 0, 4)], [Param("p", "q")], [RunTag("t", "u")])
    client.log_param(place, "r", 5)
    assert record.points == [("a", 3, 1.0, {}), ("b", 4, 2.0, {})]
    assert record.written == [("p", "q", "mlflow"), ("r", 5, "mlflow")]
    assert record.tags == [("t", "u")]


def test_params_and_tags(record: Recording, run: Any) -> None:
    """With their types where MLflow has them still; its own tags are left out."""
    mlflow.log_param("lr", 0.1)
    mlflow.log_params({"epochs": 3, "net": "small"})
    mlflow.set_tag("team", "vision")
    mlflow.set_tags({"stage": "dev", "mlflow.note.content": "n"})
    assert record.params_by_key() == {"lr": 0.1, "epochs": "3", "net": "small"}
    assert record.tags == [("team", "vision"), ("stage", "dev")]


def test_files(record: Recording, run: Any, tmp_path: Path) -> None:
    """One, and a folder of them with their relative names."""
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    for name in ("one.txt", "folder/two.txt", "folder/inner/three.txt"):
        (tmp_path / name).write_text(name)
    mlflow.log_artifact(str(tmp_path / "one.txt"))
    mlflow.log_artifacts(str(tmp_path / "folder"))
    assert [(file["path"], file.get("name")) for file in record.files] == [
        (str(tmp_path / "one.txt"), None),
        (str(tmp_path / "folder/two.txt"), "two.txt"),
        (str(tmp_path / "folder/inner/three.txt"), "inner/three.txt"),
    ]


def test_at_the_step_of_the_training(record: Recording, run: Any) -> None:
    """Without a step; the loss that is on record anyway is one point, another value of it is kept."""
    weights = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = (weights**2).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        mlflow.log_metric("loss", loss.item())
        mlflow.log_metric("twice", 2 * loss.item())
    mlflow.log_metric("loss", 99.0)
    assert record.series("loss") == [*enumerate(losses), (2, 99.0)]
    assert record.series("twice") == [(step, 2 * loss) for step, loss in enumerate(losses)]


def test_errors_are_the_programs(record: Recording, run: Any, tmp_path: Path) -> None:
    mlflow.log_param("lr", 0.1)
    with pytest.raises(mlflow.MlflowException):
        mlflow.log_param("lr", 0.2)
    with pytest.raises(mlflow.MlflowException):
        mlflow.log_metric("loss", "much")  # type: ignore[arg-type]
    with pytest.raises(OSError, match="missing"):
        mlflow.log_artifact(str(tmp_path / "missing"))
    assert record.params_by_key() == {"lr": 0.1}
    assert record.points == []
    assert record.files == []
