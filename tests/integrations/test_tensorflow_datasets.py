"""Data sets of TensorFlow Datasets are known by name, version and split, also after the program has made pipelines of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import tensorflow_datasets as tfds

from integrations.recording import Recording, recorded
from looptap.describing import Description
from looptap_integrations.numpy_files import NumpyFilesIntegration
from looptap_integrations.tensorflow import TensorFlowIntegration
from looptap_integrations.tensorflow_datasets import TensorFlowDatasetsIntegration


class Tiny(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    __module__ = "tiny"  # of a package, it would be looked for in that
    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="small"), tfds.core.BuilderConfig(name="other"))

    def _info(self) -> Any:
        features = {"x": tfds.features.Tensor(shape=(3,), dtype=numpy.float32), "y": numpy.int64}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, downloads: Any) -> Any:
        return {"train": self._generate_examples(10), "test": self._generate_examples(4)}

    def _generate_examples(self, count: int) -> Iterator[Any]:
        for number in range(count):
            yield number, {"x": numpy.full(3, number, "float32"), "y": number}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    for config in ("small", "other"):
        Tiny(config=config, data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TensorFlowIntegration, NumpyFilesIntegration, TensorFlowDatasetsIntegration) as recording:
        yield recording


def known(told: Description) -> tuple[Any, ...]:
    assert told.missing is None
    assert told.details["from"] == "tensorflow_datasets"
    return told.name, told.split, told.details["version"], told.details["config"], told.details["examples"], told.length


def test_a_pipeline_of_one(record: Recording, folder: Path) -> None:
    """What is made of a data set is the same data, or a part of it; without us it would be some files."""
    train = tfds.load("tiny/small", split="train", data_dir=folder)
    pipeline = train.shuffle(4).map(lambda item: item["x"]).batch(2)
    told = record.describers.describe(pipeline)
    assert known(told) == ("tiny", "train", "1.2.0", "small", 10, 10)
    assert told.details["operations"][:2] == ["tiny", "shuffle(4)"]
    assert told.parts == record.describers.describe(train).parts
    assert len(told.parts) == 1
    part = record.describers.describe(train.take(3))
    assert part.parts[0] == told.parts[0]
    assert len(part.parts) == 2


def test_splits_and_configurations(record: Recording, folder: Path) -> None:
    """Each is other data; the same ones are the same, whichever way they were asked for."""
    half, test = tfds.load("tiny/small", split=["train[:50%]", "test"], data_dir=folder)
    whole = tfds.load("tiny/small", data_dir=folder)
    again = Tiny(config="small", data_dir=folder).as_dataset(split="test")
    other = tfds.load("tiny/other", split="test", data_dir=folder)
    told = [record.describers.describe(one) for one in (half, test, whole["test"], again, other, whole["train"])]
    assert [known(one)[1:] for one in told] == [
        ("train[:50%]", "1.2.0", "small", 5, 5),
        ("test", "1.2.0", "small", 4, 4),
        ("test", "1.2.0", "small", 4, 4),
        ("test", "1.2.0", "small", 4, 4),
        ("test", "1.2.0", "other", 4, 4),
        ("train", "1.2.0", "small", 10, 10),
    ]
    assert told[1].parts == told[2].parts == told[3].parts
    assert len({tuple(one.parts) for one in told}) == 4


def test_errors_are_the_users(record: Recording, folder: Path) -> None:
    """A split that is not there, a data set that nobody knows; whole data sets in memory pass."""
    with pytest.raises(ValueError, match="Unknown split"):
        tfds.load("tiny/small", split="nothing", data_dir=folder)
    assert set(tfds.load("tiny/small", split="test", batch_size=-1, data_dir=folder)) == {"x", "y"}


def test_everything_is_undone() -> None:
    """The methods are the identical objects again."""
    builder = tfds.core.DatasetBuilder
    before = [builder.as_dataset, builder.as_data_source]
    with recorded(TensorFlowDatasetsIntegration):
        assert builder.as_dataset is not before[0]
    assert [builder.as_dataset, builder.as_data_source] == before
