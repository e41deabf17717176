"""The seed that the program gives to Python's own ``random``."""

from __future__ import annotations

from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder


class RandomIntegration(Integration):
    captures = (Capture("seed.python, given before or at the first step of a run", "random.seed", "once a run"),)

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        self._generation = -1
        patch.observe("random", "seed", self.on_seed)

    def on_seed(self, call: Call) -> Observation:
        yield
        value = call.args[0] if call.args else call.kwargs.get("a")
        # Once per run: some programs seed again for every item of their data.
        if call.error is None and value is not None and self._generation != self.record.generation:
            self._generation = self.record.generation
            self.record.param("seed.python", value, "random")
