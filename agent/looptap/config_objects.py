"""Configuration that lives in the program's objects: dataclasses, pydantic and attrs models, OmegaConf, namespaces, dicts.

Found once per run among the variables of the program's own frames, and one level inside of their objects (a model that keeps the
``config`` it was made from). An object counts as configuration when its class or its variable is called so (``TrainConfig``,
``cfg``, ``args``, ``hparams``) and nothing in it is data: a tensor or an array inside makes it a batch or a state.

Reading runs no code of the program: fields are taken from where the object keeps them. Properties, computed fields and attributes
that ``__getattr__`` would make up are not asked for.
"""

from __future__ import annotations

import argparse
import enum
import os
import re
import sys
import types
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from looptap.command_lines import is_library
from looptap.fields import ABSENT, attributes, declared_fields, held_by, is_declared, is_pydantic
from looptap.frames import variables_in_reach
from looptap.omegaconf_nodes import container
from looptap.plain import DEPTH_LIMIT, ITEMS_LIMIT

LEAVES_LIMIT = 500
_FRAMES_LIMIT = 200
_HERE = os.path.dirname(__file__) + os.sep
_WORDS = re.compile(
    r"(?:^|_)(?:cfgs?|configs?|configurations?|conf|args|arguments|opts?|options|flags|settings|setup|hparams|hps|hp|hyper\w*|params)\d*(?:$|_)"
)
_SIMPLE = (bool, int, float, str, enum.Enum, os.PathLike, type(None))
#: Of these the text says it all.
_NAMED = {"dtype", "device"}


class Configuration:
    """One object of the program. ``leaves`` are its settings by dotted key, ``name`` is the program's name for it."""

    def __init__(self, name: str, value: Any, source: str, leaves: dict[str, Any], inner: set[int]) -> None:
        self.name = name
        self.value = value
        self.source = source
        self.leaves = leaves
        #: Ids of the objects inside, which are no configurations of their own.
        self.inner = inner


def settings_in(
    frame: FrameType | None,
    given: dict[str, Any],
    is_secret: Callable[[str], bool],
    taken: set[str] = frozenset(),  # type: ignore[assignment]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(source, settings by key) of each configuration in reach of these frames, nearest first.

    ``given`` is what command lines and configuration libraries have told already: what repeats it is left out. Keys are those of
    the object when it is the only one and overrides none of the given keys, else they begin with the variable's name. Variables in
    ``taken`` are left out.
    """
    found = [one for one in _found(frame, is_secret) if one.name not in taken]
    inner = {key for one in found for key in one.inner}
    left = [
        (one, {key: value for key, value in one.leaves.items() if not _is_told(key, value, given)})
        for one in found
        if id(one.value) not in inner
    ]
    left = [(one, leaves) for one, leaves in left if leaves]
    # A namespace is a command line, whose keys are nobody else's.
    count = sum(type(one.value) is not argparse.Namespace for one, _ in left)
    for one, leaves in left:
        is_plain = type(one.value) is argparse.Namespace or (count == 1 and given.keys().isdisjoint(leaves))
        yield one.source, leaves if is_plain else {f"{one.name}.{key}": value for key, value in leaves.items()}


def leaves_of(value: Any, is_secret: Callable[[str], bool]) -> dict[str, Any]:
    """The settings in one configuration object by dotted key; empty when there is data in it, or nothing to be told."""
    return _Reader(is_secret).read(value)


def _is_told(key: str, value: Any, given: dict[str, Any]) -> bool:
    told = given.get(key, ABSENT)
    return (
        type(told) is type(value) and bool(told == value)
        if isinstance(value, (*_SIMPLE, list, dict))
        else told is value
    )


def _found(frame: FrameType | None, is_secret: Callable[[str], bool]) -> list[Configuration]:
    found: dict[int, Configuration] = {}
    looked_at: set[int] = set()
    for _ in range(_FRAMES_LIMIT):
        if frame is None:
            break
        if not (is_library(frame.f_code.co_filename) or _is_ours(frame)):
            reach = list(variables_in_reach(frame))
            looked_at.update(id(_given_by_keras(value)) for _, value in reach)
            for name, value in reach:
                if id(value) in looked_at or issubclass(type(value), type):
                    continue
                looked_at.add(id(value))
                source = _kind(value)
                if source is None or name.startswith("_") or not _is_called_so(name, value):
                    continue
                reader = _Reader(is_secret)
                leaves = reader.read(value)
                if leaves:
                    found[id(value)] = Configuration(name, value, source, leaves, reader.inner - {id(value)})
        frame = frame.f_back
    return list(found.values())


def _given_by_keras(value: Any) -> Any:
    """The ``params`` of a callback, of the program's own class as well: Keras puts them there, and ``fit`` was given them."""
    is_callback = any(
        base.__name__ in ("Callback", "CallbackList") and str(base.__module__).split(".")[0] in ("keras", "tf_keras")
        for base in type(value).__mro__
    )
    return held_by(value).get("params") if is_callback else None


def _is_ours(frame: FrameType) -> bool:
    """``looptap run`` is around the program, with settings of its own."""
    # By file: run as ``python -m looptap.cli`` its module is ``__main__``, too.
    return frame.f_code.co_filename.startswith(_HERE)


def _is_called_so(name: str, value: Any) -> bool:
    return bool(_WORDS.search(_snake(name.rsplit(".", 1)[-1])) or _WORDS.search(_snake(type(value).__name__)))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _kind(value: Any) -> str | None:
    """What this is a configuration object of; None when it is none. Classes that a library brings configure that library."""
    kind = type(value)
    if kind is dict:
        return "dict"
    if kind is types.SimpleNamespace or kind is argparse.Namespace:
        return "namespace"
    module = kind.__module__.split(".")[0] if isinstance(kind.__module__, str) else ""
    if module == "omegaconf":
        return "omegaconf" if kind.__name__ == "DictConfig" else None
    if module == "ml_collections":
        return "ml_collections"
    if issubclass(kind, dict):
        return "dict"
    if _is_of_library(kind):
        return None
    if is_declared(kind):
        return "dataclass" if "__dataclass_fields__" in attributes(kind) else "attrs"
    return "pydantic" if is_pydantic(kind) else None


def _is_of_library(kind: type) -> bool:
    module = sys.modules.get(kind.__module__)
    filename = vars(module).get("__file__") if isinstance(module, types.ModuleType) else None
    return isinstance(filename, str) and is_library(filename)


class _Reader:
    """Reads one configuration; remembers the objects inside of it."""

    def __init__(self, is_secret: Callable[[str], bool]) -> None:
        self._is_secret = is_secret
        self.inner: set[int] = set()

    def read(self, value: Any) -> dict[str, Any]:
        """Settings by dotted key; empty when there is data in it, or nothing to be told."""
        leaves: dict[str, Any] = {}
        return leaves if self._fields(value, "", leaves, 0) else {}

    def _fields(self, value: Any, prefix: str, leaves: dict[str, Any], depth: int) -> bool:
        """False when this is data and no configuration."""
        self.inner.add(id(value))
        for key, item in list(self._items(value).items())[:ITEMS_LIMIT]:
            if type(key) not in (str, int) or (isinstance(key, str) and key.startswith("_")):
                continue
            if not self._leaf(f"{prefix}{key}", item, leaves, depth):
                return False
        return True

    def _leaf(self, key: str, item: Any, leaves: dict[str, Any], depth: int) -> bool:
        if len(leaves) >= LEAVES_LIMIT or item is ABSENT:
            return True
        if issubclass(type(item), (*_SIMPLE, type, types.FunctionType)):
            leaves[key] = item
        elif _is_nested(item):
            if depth < DEPTH_LIMIT and id(item) not in self.inner:
                return self._fields(item, f"{key}.", leaves, depth + 1)
        elif issubclass(type(item), (list, tuple, set, frozenset)):
            values = list(item)[:ITEMS_LIMIT]
            if any(_is_data(one) for one in values):
                return False
            if all(issubclass(type(one), _SIMPLE) for one in values):
                leaves[key] = values
            else:
                for index, one in enumerate(values):
                    if not self._leaf(f"{key}.{index}", one, leaves, depth + 1):
                        return False
        elif type(item).__name__ in _NAMED:
            leaves[key] = str(item)
        elif type(item).__name__ in ("SecretStr", "SecretBytes"):
            leaves[key] = "[redacted]"
        elif _is_data(item):
            return False
        return True

    def _items(self, value: Any) -> dict[Any, Any]:
        kind = type(value)
        if kind.__module__.startswith("omegaconf"):
            return container(value, self._is_secret)
        if kind.__module__.startswith("ml_collections"):
            return dict(held_by(value).get("_fields", {}))
        if issubclass(kind, dict):
            # Not value.items(): a subclass may compute it.
            return dict(dict.items(value))
        return declared_fields(value) if is_declared(kind) else held_by(value)


def _is_nested(item: Any) -> bool:
    kind = type(item)
    if issubclass(kind, dict) or kind in (types.SimpleNamespace, argparse.Namespace):
        return True
    if kind.__module__.startswith(("omegaconf", "ml_collections")):
        return True
    return is_declared(kind) or is_pydantic(kind)


def _is_data(item: Any) -> bool:
    """A tensor, an array, a module with parameters, a frame of data: by class, since asking the object would run its code."""
    names = {base.__name__ for base in type(item).__mro__}
    return bool(
        names & {"Tensor", "ndarray", "Module", "Array", "Optimizer", "DataFrame", "Series", "Dataset", "Variable"}
    )
