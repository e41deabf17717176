"""torchmetrics, against what the same calls return."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score
from torchmetrics.wrappers import ClasswiseWrapper

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration
from looptap_integrations.torchmetrics import TorchmetricsIntegration

OUTPUTS = torch.tensor([0, 1, 2, 2, 1])
TARGETS = torch.tensor([0, 1, 2, 1, 1])


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration, TorchmetricsIntegration) as recording:
        yield recording


def test_named_by_variable_or_class(record: Recording) -> None:
    """A metric that was made before us is seen too; the same result once more is not another one."""
    metric = MulticlassAccuracy(num_classes=3, average="micro")
    metric.update(OUTPUTS, TARGETS)
    accuracy = metric.compute()
    assert metric.compute() == accuracy
    metric.reset()
    metric.update(OUTPUTS, OUTPUTS)
    metric.compute()
    best = (metric.compute().item() + 1) / 2
    assert best == 1.0
    assert record.points == [("accuracy", 0, accuracy.item(), {}), ("multiclass_accuracy", 0, 1.0, {})]


def test_made_before_us() -> None:
    metric = MulticlassAccuracy(num_classes=3, average="micro")
    metric.update(OUTPUTS, TARGETS)
    with recorded(TorchmetricsIntegration) as record:
        metric.compute()
    assert record.values("multiclass_accuracy") == [torch.tensor(0.8).item()]


def test_forward_is_not_asked_for(record: Recording) -> None:
    """metric(preds, target) computes inside; the program did not ask."""
    for average in ("micro", "macro"):
        MulticlassF1Score(num_classes=3, average=average)(OUTPUTS, TARGETS)
    torchmetrics.MeanMetric()(torch.ones(3))
    torchmetrics.MetricCollection([MulticlassAccuracy(num_classes=3)])(OUTPUTS, TARGETS)
    assert record.points == []


def test_collection_gives_each_key_once(record: Recording) -> None:
    """With its prefix, also where metrics share their states."""
    collection = torchmetrics.MetricCollection(
        {"acc": MulticlassAccuracy(num_classes=3), "f1": MulticlassF1Score(num_classes=3)}, prefix="m_"
    )
    collection.update(OUTPUTS, TARGETS)
    collection.update(OUTPUTS, OUTPUTS)
    result = collection.compute()
    assert record.points == [(key, 0, value.item(), {}) for key, value in result.items()]
    assert set(result) == {"m_acc", "m_f1"}


def test_compositions_and_wrappers(record: Recording) -> None:
    """The outermost is what was asked for."""
    one, other = MulticlassAccuracy(num_classes=3), MulticlassF1Score(num_classes=3)
    both = one + other
    both.update(OUTPUTS, TARGETS)
    both_together = both.compute()
    classwise = ClasswiseWrapper(MulticlassAccuracy(num_classes=3, average=None))
    classwise.update(OUTPUTS, TARGETS)
    by_class = classwise.compute()
    expected = {"both_together": both_together.item()} | {key: value.item() for key, value in by_class.items()}
    assert {key: value for key, _, value, _ in record.points} == expected
    assert len(record.points) == 4


def test_one_series_per_class(record: Recording) -> None:
    """average=None; a confusion matrix is noted only."""
    metric = MulticlassAccuracy(num_classes=3, average=None)
    metric.update(OUTPUTS, TARGETS)
    recall = metric.compute()
    matrix = MulticlassConfusionMatrix(num_classes=3)
    matrix.update(OUTPUTS, TARGETS)
    matrix.compute()
    assert record.points == [("recall", 0, value, {"class": str(index)}) for index, value in enumerate(recall.tolist())]
    assert len(record.notes) == 1
    assert record.notes[0].startswith("multiclass_confusion_matrix is left out")


def test_in_the_split_and_at_the_step_of_the_training(record: Recording) -> None:
    """After a validation pass; before the next step of the training, and not behind it."""
    torch.manual_seed(0)
    model, metric = nn.Linear(2, 3), MulticlassAccuracy(num_classes=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = TensorDataset(torch.randn(8, 2), torch.randint(3, (8,)))
    train_loader, val_loader = DataLoader(data, batch_size=4), DataLoader(TensorDataset(*data.tensors), batch_size=8)
    expected = []
    for _ in range(2):
        for x, y in train_loader:
            optimizer.zero_grad()
            outputs = model(x)
            nn.functional.cross_entropy(outputs, y).backward()
            optimizer.step()
            metric.update(outputs, y)
        train_accuracy = metric.compute()
        metric.reset()
        for x, y in val_loader:
            with torch.no_grad():
                metric.update(model(x), y)
        accuracy = metric.compute()
        metric.reset()
        expected.append((train_accuracy.item(), accuracy.item()))
    assert record.series("train_accuracy") == [(step, one) for step, (one, _) in zip([1, 3], expected, strict=True)]
    assert record.series("validation/accuracy") == [
        (step, one) for step, (_, one) in zip([1, 3], expected, strict=True)
    ]


def test_metrics_stay_what_they_are(record: Recording) -> None:
    """Pickled, copied, and with an error that reaches the program."""
    metric = MulticlassAccuracy(num_classes=3)
    metric.update(OUTPUTS, TARGETS)
    again = pickle.loads(pickle.dumps(copy.deepcopy(metric)))
    assert again.compute() == metric.compute()

    class Broken(torchmetrics.Metric):
        def update(self) -> None: ...

        def compute(self) -> None:
            raise ValueError("mine")

    broken = Broken()
    broken.update()
    with pytest.raises(ValueError, match="mine"):
        broken.compute()
    assert record.names() == {"multiclass_accuracy"}
