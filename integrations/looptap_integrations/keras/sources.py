"""The data sets that come with Keras: ``keras.datasets.mnist.load_data()`` gives arrays that are known again by their content."""

from __future__ import annotations

from typing import Any

from looptap.describing import Describers
from looptap.patching import Call, Observation, Observer, Patcher
from looptap.plain import plain
from looptap.sources import Source
from looptap_integrations.keras.names import observe_functions

_NAMES = (
    "boston_housing",
    "california_housing",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "imdb",
    "mnist",
    "reuters",
)
_SPLITS = ("train", "test")


def watch_sources(patch: Patcher, package: Any, describers: Describers) -> None:
    """``package``: ``keras`` or ``tf_keras``."""
    for name in _NAMES:
        observer = _loading(package.__name__, name, describers)
        observe_functions(patch, package.__name__, f"datasets.{name}", {"load_data": observer})


def _loading(package: str, name: str, describers: Describers) -> Observer:
    def on_load(call: Call) -> Observation:
        yield
        if call.error is not None:
            return
        given = {f"argument {place}": value for place, value in enumerate(call.args)} | call.kwargs
        details = {"from": f"{package}.datasets", **({"arguments": plain(given)} if given else {})}
        for split, arrays in zip(_SPLITS, call.result, strict=False):
            source = Source(name, split, details)
            for array in arrays:
                describers.sources.remember(array, source)
                describers.sources.remember_content(describers.describe(array).parts, source)

    return on_load
