"""Checkpoints of ``torch.distributed.checkpoint``: a folder with the shards of every rank and one ``.metadata``.

Each rank has on record the shards that it wrote itself, and the one that wrote ``.metadata`` has that. An asynchronous save is on
record when it is complete. Of a checkpoint that is read, each file is looked into by one rank.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder

_SHARD = re.compile(r"__(\d+)_\d+\.distcp\Z")
_METADATA = ".metadata"
#: File systems keep times in steps, some as rough as this.
_CLOCK_NS = 2 * 10**9


class ShardedFilesIntegration(Integration):
    requires = "torch>=2.2"
    captures = (
        Capture(
            "the shards of a distributed checkpoint, each rank its own, and .metadata (role output)",
            "torch.distributed.checkpoint: save, async_save, save_state_dict",
            "each call, asynchronous ones when they are complete",
            "in the background",
        ),
        Capture(
            "a distributed checkpoint that is read: SHA-256 of its files (role input)",
            "torch.distributed.checkpoint: load, load_state_dict",
            "each file once a run",
            "in the background",
        ),
    )
    not_captured = (
        "distributed checkpoints in a store other than a folder, or by a writer that names its files otherwise",
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        from torch.distributed.checkpoint import state_dict_saver

        self.record = record
        #: By place, of asynchronous saves under way: the step at which each was asked for, and whether that was suppressed.
        self._asked: dict[str | None, tuple[int | None, bool]] = {}
        package = "torch.distributed.checkpoint"
        for module in (package, f"{package}.state_dict_saver"):
            patch.observe(module, "save", self.on_save)
            patch.observe(module, "save_state_dict", self.on_save_state_dict)
            if hasattr(state_dict_saver, "async_save"):  # from 2.3 on
                patch.observe(module, "async_save", self.on_async_save)
        for module in (package, f"{package}.state_dict_loader"):
            patch.observe(module, "load", self.on_load)
            patch.observe(module, "load_state_dict", self.on_load_state_dict)

    def on_save(self, call: Call) -> Observation:
        written = self._written(call, "storage_writer", position=None)
        yield
        if call.error is None:
            written()

    def on_save_state_dict(self, call: Call) -> Observation:
        written = self._written(call, "storage_writer", position=1)
        yield
        if call.error is None:
            written()

    def on_async_save(self, call: Call) -> Observation:
        written = self._written(call, "storage_writer", position=None)
        place = _place(call, "storage_writer", position=None)
        # What writes the files is save(), which another thread calls when the training has gone on.
        self._asked[place] = self._asked_now()
        yield
        if call.error is not None:
            self._asked.pop(place, None)
            return
        # Where the caller's tensors are staged beside the training, it gets two futures in one object.
        future = getattr(call.result, "upload_completion", call.result)

        def completed(future: Any) -> None:
            self._asked.pop(place, None)
            if not future.cancelled() and future.exception() is None:
                written()

        if hasattr(future, "add_done_callback"):
            future.add_done_callback(completed)

    def on_load(self, call: Call) -> Observation:
        yield
        if call.error is None:
            self._read(call, position=None)

    def on_load_state_dict(self, call: Call) -> Observation:
        yield
        if call.error is None:
            self._read(call, position=1)

    # --- private ------------------------------------------------------------------------------------------------------

    def _asked_now(self) -> tuple[int | None, bool]:
        return (self.record.step if self.record.step >= 0 else None), self.record.is_suppressed()

    def _written(self, call: Call, storage: str, position: int | None) -> Callable[[], None]:
        """To be called when this rank has written its part."""
        began_ns = time.time_ns()
        rank, _ = _rank(call)
        step, is_suppressed = self._asked.get(_place(call, storage, position)) or self._asked_now()

        def written() -> None:
            folder = _folder(call, storage, position)
            if folder is None or is_suppressed:
                return
            for name, path in _files(folder):
                shard = _SHARD.match(name)
                if (int(shard[1]) == rank if shard else rank == 0) and _modified_ns(path) >= began_ns - _CLOCK_NS:
                    self.record.file(path, name=_name(folder, name), kind="model", step=step)

        return written

    def _read(self, call: Call, position: int | None) -> None:
        folder = _folder(call, "storage_reader", position)
        if folder is None or self.record.is_suppressed():
            return
        rank, ranks = _rank(call)
        step = self.record.step if self.record.step >= 0 else None
        for name, path in _files(folder):
            shard = _SHARD.match(name)
            if (int(shard[1]) if shard else 0) % ranks == rank:
                self.record.file(path, name=_name(folder, name), role="input", kind="model", step=step)


def _folder(call: Call, storage: str, position: int | None) -> str | None:
    """Where the checkpoint is, if that is a folder of this machine."""
    place = _place(call, storage, position)
    return place if place is not None and os.path.isdir(place) else None


def _place(call: Call, storage: str, position: int | None) -> str | None:
    """The path that was given, of a checkpoint or of what writes or reads it."""
    given = call.kwargs.get("checkpoint_id")
    if given is None:
        given = call.kwargs.get(storage)
        if given is None and position is not None and len(call.args) > position:
            given = call.args[position]
        given = getattr(given, "path", given)
    if not isinstance(given, (str, os.PathLike)):
        return None
    place = os.fspath(given)
    return place if isinstance(place, str) else None


def _rank(call: Call) -> tuple[int, int]:
    """Of this process among those that save or load together, and how many these are."""
    if call.kwargs.get("no_dist") or not dist.is_available() or not dist.is_initialized():
        return 0, 1
    group = call.kwargs.get("process_group")
    return max(0, dist.get_rank(group)), max(1, dist.get_world_size(group))


def _files(folder: str) -> list[tuple[str, str]]:
    return [
        (name, os.path.join(folder, name))
        for name in sorted(os.listdir(folder))
        if name == _METADATA or _SHARD.match(name)
    ]


def _modified_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _name(folder: str, name: str) -> str:
    return f"{os.path.basename(os.path.abspath(folder))}/{name}"
