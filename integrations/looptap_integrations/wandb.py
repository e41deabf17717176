"""Under construction."""

from __future__ import annotations

from looptap.integration import Capture, Integration
from looptap.patching import Patcher
from looptap.recorder import Recorder


class WandbIntegration(Integration):
    captures = (Capture("nothing yet", "nowhere", "never"),)

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
