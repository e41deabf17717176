"""Hugging Face data sets, the real ones, by their own fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from integrations.recording import Recording, recorded
from looptap_integrations.datasets import DatasetsIntegration
from looptap_integrations.torch import TorchIntegration

ROWS = {"text": ["a", "b", "c", "d"], "label": [0, 1, 0, 1]}


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration, DatasetsIntegration) as recording:
        yield recording


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def plus_one(row: dict[str, Any]) -> dict[str, Any]:
    return {"label": row["label"] + 1}


def print_of(record: Recording, dataset: Any) -> str:
    (part,) = record.describers.describe(dataset).parts
    assert (part.covers, part.algorithm) == ("huggingface", "huggingface")  # type: ignore[union-attr]
    return part.value  # type: ignore[union-attr]


def test_fingerprint(record: Recording) -> None:
    """That of the library: the same for the same data, another one after a map, the same again after the same map."""
    one, other = datasets.Dataset.from_dict(ROWS), datasets.Dataset.from_dict(ROWS)
    assert print_of(record, one) == print_of(record, other) == one._fingerprint
    mapped = print_of(record, one.map(plus_one))
    assert mapped != print_of(record, one)
    assert mapped == print_of(record, other.map(plus_one))


class Counting(datasets.Dataset):  # type: ignore[misc]
    counted = 0

    def __len__(self) -> int:
        type(self).counted += 1
        return 3


def test_own_length(record: Recording) -> None:
    """The number of rows is that of the table; a class that has made its own of it is not asked."""
    plain = datasets.Dataset.from_dict(ROWS)
    own = Counting(plain._data, info=plain.info, fingerprint="abc")
    Counting.counted = 0
    assert (record.describers.describe(own).length, Counting.counted) == (None, 0)
    assert record.describers.describe(plain).length == 4


def test_description(record: Recording, tmp_path: Path) -> None:
    """Features, length, split; builder, configuration, version and the checksums of what was loaded."""
    (tmp_path / "rows.csv").write_text("text,label\na,0\nb,1\n")
    loaded = datasets.load_dataset("csv", data_files={"train": str(tmp_path / "rows.csv")}, split="train")
    found = record.describers.describe(loaded)
    assert (found.name, found.kind, found.length, found.split) == ("csv", "huggingface", 2, "train")
    assert found.schema == {name: kind.dtype for name, kind in loaded.features.items()}
    assert found.schema["label"] == "int64"
    assert (found.details["builder"], found.details["version"]) == ("csv", "0.0.0")
    assert found.details["config"].startswith("default")


def test_stream_with_checksums(record: Recording) -> None:
    """A stream is what was downloaded for it, where the source tells that; else it has no fingerprint."""
    stream = datasets.Dataset.from_dict(ROWS).to_iterable_dataset()
    found = record.describers.describe(stream)
    assert (found.parts, found.length) == ([], None)
    assert found.missing == "it is streamed, and its source tells no checksums"
    stream._info.download_checksums = {"https://host/x.csv": {"num_bytes": 3, "checksum": "ab"}}
    (part,) = record.describers.describe(stream).parts
    assert part.covers == "download checksums"  # type: ignore[union-attr]
    stream._info.download_checksums["https://host/x.csv"]["checksum"] = "cd"
    assert record.describers.describe(stream).parts != [part]


def test_in_a_training(record: Recording) -> None:
    """A loader over it, and over a part of it, is told with its fingerprint."""
    rows = datasets.Dataset.from_dict({"x": [[float(n)] * 3 for n in range(8)]}).with_format("torch")
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in DataLoader(rows, batch_size=4):
        model(batch["x"]).sum().backward()
        optimizer.step()
    with torch.no_grad():
        for batch in DataLoader(Subset(rows, [1, 2]), batch_size=2):
            model(batch["x"])
    told = record.datasets["train", "Dataset"]
    assert (told.fingerprint, told.covers, told.algorithm) == (rows._fingerprint, "huggingface", "huggingface")
    assert (told.length, told.kind) == (8, "huggingface")
    part = record.datasets["validation", "Dataset"]
    assert (part.covers, part.algorithm, part.length) == ("huggingface + indices", "sha256", 2)
    assert record.params_by_key()["data.dataset_size"] == 8
