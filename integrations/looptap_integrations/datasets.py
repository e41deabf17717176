"""Data sets of Hugging Face, by the fingerprint that the library itself keeps: it changes with every ``map`` and ``filter``."""

from __future__ import annotations

from typing import Any

from looptap import looking
from looptap.describing import Description
from looptap.fingerprints import Fingerprint, digest
from looptap.integration import Capture, Integration
from looptap.patching import Patcher
from looptap.recorder import Recorder

HUGGINGFACE = "huggingface"
_MOST_FEATURES = 100
_MOST_FILES = 100


class DatasetsIntegration(Integration):
    requires = "datasets>=2.14"
    captures = (
        Capture(
            "Hugging Face datasets: fingerprint, split, features, builder, configuration, version, checksums of downloads",
            "the data set of a DataLoader, or log_dataset",
            "once a run",
            "the library's own fingerprint is read, no row is",
        ),
    )
    not_captured = ("the content of a streamed dataset: it has no fingerprint before it was read",)

    def install(self, patch: Patcher, record: Recorder) -> None:
        import datasets

        self.record = record
        self._dataset: Any = datasets.Dataset
        self._stream: Any = datasets.IterableDataset
        patch.hook(record.describers.register, self.describe)

    def describe(self, thing: Any) -> Description | None:
        if not issubclass(type(thing), (self._dataset, self._stream)):
            return None
        # Attributes of the object itself: what is named `info` or `split` may be computed.
        info = looking.attribute(thing, "_info")
        split = looking.attribute(thing, "_split")
        found = Description(
            _name(info) or type(thing).__name__,
            HUGGINGFACE,
            looking.class_name(thing),
            split=None if split is None else str(split),
            schema=_features(info),
            details=_details(info),
        )
        if issubclass(type(thing), self._dataset):
            if type(thing).__len__ is self._dataset.__len__:
                found.length = len(thing)  # the number of rows of its table
            value = looking.attribute(thing, "_fingerprint")
            if type(value) is str and 0 < len(value) <= 64:
                found.parts = [Fingerprint(value, HUGGINGFACE, HUGGINGFACE)]
            else:
                found.missing = "it has no fingerprint"
        elif found.details.get("checksums"):
            told = [found.split, *(found.details.get(key) for key in ("builder", "config", "version", "checksums"))]
            found.parts = [Fingerprint(digest(repr(told).encode()), "download checksums")]
        else:
            found.missing = "it is streamed, and its source tells no checksums"
        return found


def _name(info: Any) -> str | None:
    for key in ("dataset_name", "builder_name"):
        value = looking.attribute(info, key)
        if type(value) is str and value and value != "generator":
            return value
    return None


def _features(info: Any) -> dict[str, str] | None:
    features = looking.attribute(info, "features")
    if not isinstance(features, dict):
        return None
    return {str(name): _feature(kind) for name, kind in list(dict.items(features))[:_MOST_FEATURES]}


def _feature(kind: Any) -> str:
    dtype, names = looking.attribute(kind, "dtype"), looking.attribute(kind, "names")
    if type(kind).__name__ == "Value" and type(dtype) is str:
        return dtype
    if type(kind).__name__ == "ClassLabel" and type(names) is list:
        return looking.sketch(("ClassLabel", *names))
    return looking.sketch(kind)


def _details(info: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, name in (("builder", "builder_name"), ("config", "config_name"), ("dataset", "dataset_name")):
        value = looking.attribute(info, name)
        if type(value) is str:
            found[key] = value
    version = looking.attribute(info, "version")
    if version is not None:
        found["version"] = str(version)
    checksums = looking.attribute(info, "download_checksums")
    if type(checksums) is dict and checksums:
        found["checksums"] = {
            str(url): entry.get("checksum")
            for url, entry in list(checksums.items())[:_MOST_FILES]
            if type(entry) is dict
        }
        found["downloads"] = len(checksums)
    return found
