"""What was set how, written once per run at the first step: optimizer, model, data, seeds, flags."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from looptap.config_objects import settings_in
from looptap.frames import variables_in_reach
from looptap.guard import Guard
from looptap.recorder import Recorder
from looptap.script import script_constants

SOURCE = "torch"
#: Wrappers around the user's model, and where they keep it.
_WRAPPERS = ("module", "_orig_mod")
_GROUP_KEYS_LEFT_OUT = {"params", "param_names", "initial_lr"}
_LOADER_KEYS = (
    "batch_size",
    "num_workers",
    "drop_last",
    "pin_memory",
    "prefetch_factor",
    "persistent_workers",
)


class Facts:
    def __init__(self, record: Recorder) -> None:
        self._record = record
        self._written: set[str] = set()
        self._max_norm: float | None = None
        self._autocast: set[torch.dtype] = set()
        self._is_first = True

    def restart(self) -> None:
        """A new run: everything is due again."""
        self._written.clear()
        self._is_first = True

    def first_step(self, optimizer: Optimizer | None, label: str, frames: list[FrameType]) -> None:
        """An optimizer steps for the first time in this run (None: there is none). ``frames`` are the program's."""
        if self._is_first:
            self._is_first = False
            self._apart("process", self._process)
            if self._record.keeps_constants and frames:
                self._apart("constants", lambda: self._constants(frames))
            if self._max_norm is not None:
                self.clip(self._max_norm)
            for dtype in self._autocast:
                self._param("autocast.dtype", _dtype_name(dtype))
        if optimizer is not None:
            self._apart("optimizer", lambda: self._optimizer(optimizer, label or "optimizer"))
        self._apart("model", lambda: self._models(optimizer, label, frames))

    def loader(self, loader: DataLoader[Any] | None, backwards: int) -> None:
        """The loader that fed the first step, in which each loss was backwarded this often."""
        if loader is not None and "data" not in self._written:
            self._written.add("data")
            self._apart("data", lambda: self._loader(loader, backwards))

    def clip(self, maximum: Any) -> None:
        """The program clips its gradients to this norm."""
        self._max_norm = maximum
        if not self._is_first and "clip" not in self._written and isinstance(maximum, (int, float)):
            self._written.add("clip")
            self._param("grad_clip.max_norm", float(maximum))

    def autocast(self, dtype: torch.dtype) -> None:
        """The program computes under autocast."""
        if dtype not in self._autocast:
            self._autocast.add(dtype)
            if not self._is_first:
                self._param("autocast.dtype", _dtype_name(dtype))

    # --- private ----------------------------------------------------------------------------------------------------

    def _param(self, key: str, value: Any) -> None:
        self._record.param(key, value, SOURCE)

    def _apart(self, what: str, write: Callable[[], None]) -> None:
        """One group of facts that cannot be had does not cost the others."""
        guard = Guard(f"torch.facts.{what}")
        with guard:
            write()
        if guard.last_error:
            self._record.note("torch", f"facts of the {what} are incomplete: {guard.last_error}")

    def _constants(self, frames: list[FrameType]) -> None:
        """What the program has written down about this training, in its script or in objects."""
        record = self._record
        constants = script_constants(frames)
        record.params(constants, "constant")
        for source, values in settings_in(frames[0], record.given, record.redactor.is_secret, set(constants)):
            record.params(values, source)

    def _process(self) -> None:
        self._param("torch.version", torch.__version__)
        self._param("torch.threads", torch.get_num_threads())
        self._param("seed.torch", torch.initial_seed())
        self._param("deterministic.algorithms", torch.are_deterministic_algorithms_enabled())
        self._param("deterministic.cudnn", torch.backends.cudnn.deterministic)
        self._param("deterministic.cudnn_benchmark", torch.backends.cudnn.benchmark)
        self._param("deterministic.matmul_precision", torch.get_float32_matmul_precision())
        hash_seed = os.environ.get("PYTHONHASHSEED")
        if hash_seed is not None:
            self._param("deterministic.python_hash_seed", hash_seed)

    def _optimizer(self, optimizer: Optimizer, prefix: str) -> None:
        self._param(f"{prefix}.class", _class_name(optimizer))
        groups = [
            {key: value for key, value in group.items() if key not in _GROUP_KEYS_LEFT_OUT}
            for group in optimizer.param_groups
        ]
        for key in dict.fromkeys(key for group in groups for key in group):
            values = [_setting(group.get(key)) for group in groups]
            if all(_same(value, values[0]) for value in values):
                self._param(f"{prefix}.{key}", values[0])
            else:
                for index, value in enumerate(values):
                    self._param(f"{prefix}.group{index}.{key}", value)

    def _models(self, optimizer: Optimizer | None, label: str, frames: list[FrameType]) -> None:
        trained = None
        if optimizer is not None:
            trained = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
        models = _models_of(trained, frames)
        for name, model in models:
            prefix = name if label or len(models) > 1 else "model"
            if prefix not in self._written:
                self._written.add(prefix)
                self._model(prefix, model)

    def _model(self, prefix: str, model: torch.nn.Module) -> None:
        parameters = list(model.parameters())
        self._param(f"{prefix}.class", _class_name(model))
        self._param(f"{prefix}.parameters", _count(parameters))
        self._param(f"{prefix}.parameters_trainable", _count(p for p in parameters if p.requires_grad))
        for dtype in dict.fromkeys(tensor.dtype for tensor in parameters):
            count = _count(tensor for tensor in parameters if tensor.dtype == dtype)
            self._param(f"{prefix}.parameters_{_dtype_name(dtype)}", count)
        devices = list(dict.fromkeys(str(tensor.device) for tensor in parameters))
        if devices:
            self._param(f"{prefix}.device", devices[0] if len(devices) == 1 else devices)

    def _loader(self, loader: DataLoader[Any], backwards: int) -> None:
        for key in _LOADER_KEYS:
            self._param(f"data.{key}", getattr(loader, key, None))
        sampler = loader.sampler
        self._param("data.shuffle", isinstance(sampler, torch.utils.data.RandomSampler))
        self._param("data.sampler", _class_name(sampler))
        self._param("data.dataset", _class_name(loader.dataset))
        length = self._record.describers.describe(loader.dataset).length
        if length is not None:
            self._param("data.dataset_size", length)
        size = loader.batch_size
        if size is None and isinstance(getattr(loader.batch_sampler, "batch_size", None), int):
            size = loader.batch_sampler.batch_size  # type: ignore[union-attr]
        if size is not None:
            self._param("batch_size_effective", size * backwards)


def _models_of(trained: set[int] | None, frames: list[FrameType]) -> list[tuple[str, torch.nn.Module]]:
    """The models that hold the trained parameters: the outermost that holds all of them, else those that share them.
    Without an optimizer: every outermost model that has trainable parameters."""
    found: dict[int, tuple[str, torch.nn.Module]] = {}
    for frame in frames:
        for name, value in variables_in_reach(frame):
            if issubclass(type(value), torch.nn.Module) and id(value) not in found:
                found[id(value)] = (name, _unwrapped(value))
    parameters = {key: {id(p) for p in model.parameters()} for key, (_, model) in found.items()}
    chosen = list(found)
    if trained is not None:
        chosen = [key for key in found if trained <= parameters[key]]
        if not chosen:
            chosen = [key for key in found if parameters[key] and parameters[key] <= trained]
    else:
        chosen = [key for key in found if any(p.requires_grad for p in found[key][1].parameters())]
    inner = {id(part) for key in chosen for part in list(found[key][1].modules())[1:]}
    outermost: dict[int, tuple[str, torch.nn.Module]] = {}
    for key in chosen:
        name, model = found[key]
        if id(model) not in inner:
            outermost.setdefault(id(model), (name, model))
    result = list(outermost.values())
    return result[:1] if trained is not None and any(trained <= parameters[key] for key in chosen) else result


def _unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The user's model inside DistributedDataParallel, DataParallel and torch.compile."""
    while type(model).__module__.startswith("torch."):
        inner = next((part for name, part in model.named_children() if name in _WRAPPERS), None)
        if inner is None:
            return model
        model = inner
    return model


def _class_name(thing: Any) -> str:
    kind = type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _count(parameters: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() for tensor in parameters)


def _setting(value: Any) -> Any:
    """A setting of a parameter group; a tensor's number where that can be had without waiting."""
    if isinstance(value, torch.Tensor) and value.is_cpu and value.numel() == 1:
        return value.item()
    return value


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and not isinstance(one, torch.Tensor) and bool(one == other))
