"""What Lightning asks for callbacks when it makes a Trainer (entry point group ``lightning.pytorch.callbacks_factory``).

Lightning calls this in every program of an environment that looptap is installed in. So it imports nothing, not even looptap: where
``autolog()`` was called, the integration is there already, and otherwise there is nothing to add.
"""

from __future__ import annotations

import sys
from typing import Any


def lightning_pytorch() -> list[Any]:
    return _callbacks("lightning.pytorch")


def pytorch_lightning() -> list[Any]:
    return _callbacks("pytorch_lightning")


def _callbacks(package: str) -> list[Any]:
    callback = sys.modules.get("looptap.callback")
    if callback is None:
        return []
    kind = callback.callback_kind(f"{package}.callbacks:Callback")
    return [kind.new()] if kind.has_listeners else []
