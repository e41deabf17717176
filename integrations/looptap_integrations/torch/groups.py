"""Process groups: by them this process learns its rank, and agrees with the others upon the run that they all write to.

One request to the store that the group has rendezvoused through (``compare_set``), when the run begins: whoever is first gives
the answer, nobody waits for anybody, and no collective is called.
"""

from __future__ import annotations

from typing import Any

import torch.distributed as dist

from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder

_KEY = "looptap/run"


class Groups:
    def __init__(self, record: Recorder) -> None:
        self._record = record

    def install(self, patch: Patcher) -> None:
        if not dist.is_available():
            return
        from torch.distributed import distributed_c10d

        if hasattr(distributed_c10d, "_update_default_pg"):
            # Inside init_process_group: seen also where the program imported that by name before us.
            patch.observe(distributed_c10d, "_update_default_pg", self.on_init)
        else:
            patch.observe(distributed_c10d, "init_process_group", self.on_init)
            patch.observe("torch.distributed", "init_process_group", self.on_init)
        if dist.is_initialized():
            self._join(distributed_c10d)

    def on_init(self, call: Call) -> Observation:
        yield
        if call.error is None and dist.is_initialized():
            self._join(dist.distributed_c10d)

    def _join(self, c10d: Any) -> None:
        store = c10d._get_default_store()

        def agree(proposed: str) -> str:
            agreed: bytes = store.compare_set(_KEY, "", proposed)
            return agreed.decode()

        self._record.join(dist.get_rank(), dist.get_world_size(), agree)
