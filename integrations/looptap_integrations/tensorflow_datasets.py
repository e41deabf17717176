"""TensorFlow Datasets: which data set, by name, configuration, version and split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from looptap.fingerprints import Fingerprint, digest
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder
from looptap.sources import Source

VERSION = "name and version"


class TensorFlowDatasetsIntegration(Integration):
    requires = "tensorflow-datasets>=4.9"
    captures = (
        Capture(
            "data sets of tfds: name, configuration, version, split, examples; wherever they, or what is made of them, are fed to",
            "tfds.load, DatasetBuilder.as_dataset, as_data_source",
            "each call",
        ),
    )
    not_captured = ("data sets that went through tfds.as_numpy, which gives generators",)

    def install(self, patch: Patcher, record: Recorder) -> None:
        import tensorflow_datasets

        self.record = record
        builder = tensorflow_datasets.core.DatasetBuilder
        patch.observe(builder, "as_dataset", self.on_data)  # tfds.load ends there
        patch.observe(builder, "as_data_source", self.on_data)

    def on_data(self, call: Call) -> Observation:
        yield
        if call.error is not None:
            return
        split = call.args[1] if len(call.args) > 1 else call.kwargs.get("split")
        info, sources = call.instance.info, self.record.describers.sources
        if split is None:
            split = {name: name for name in info.splits}
        for one, data in _pairs(split, call.result):
            sources.remember(data, _source(info, str(one)))


def _source(info: Any, split: str) -> Source:
    examples = info.splits[split].num_examples
    details = {
        "from": "tensorflow_datasets",
        "version": str(info.version),
        "config": info.config_name,
        "examples": examples,
    }
    told = (info.full_name, split, repr(examples))
    return Source(
        info.name,
        split,
        {key: value for key, value in details.items() if value not in (None, "")},
        (Fingerprint(digest(*(text.encode() for text in told)), VERSION),),
    )


def _pairs(split: Any, data: Any) -> Iterator[tuple[Any, Any]]:
    """Each split with its data: both have the same structure of dicts, lists and tuples."""
    if isinstance(split, dict):
        for key, inner in split.items():
            yield from _pairs(inner, data[key])
    elif isinstance(split, (list, tuple)):
        for place, inner in enumerate(split):
            yield from _pairs(inner, data[place])
    else:
        yield split, data
