"""Flags of ``absl``: what the program was given, told from the defaults. Flags that absl itself defines are left out."""

from __future__ import annotations

import sys
from typing import Any

from looptap.command_lines import is_library, is_programs_own
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder


class AbslIntegration(Integration):
    requires = "absl-py>=1.0"
    captures = (
        Capture(
            "flags of the program: given values (source absl) told from defaults (source default)",
            "absl.flags.FlagValues.__call__",
            "each call",
        ),
    )
    not_captured = ("flags of libraries, unless they were given on the command line",)

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        flags: Any = sys.modules["absl.flags"]
        patch.observe(flags.FlagValues, "__call__", self.on_parse)

    def on_parse(self, call: Call) -> Observation:
        words = call.args[1] if len(call.args) > 1 else call.kwargs.get("argv")
        is_own = is_programs_own(sys._getframe(1), words, "absl")
        yield
        if call.error is None and is_own:
            self._write(call.instance)

    def _write(self, values: Any) -> None:
        for module, flags in values.flags_by_module_dict().items():
            if module.split(".")[0] == "absl":
                continue
            is_foreign = is_library(getattr(sys.modules.get(module), "__file__", None) or "")
            for flag in flags:
                if flag.present or not is_foreign:
                    self.record.settings({flag.name: flag.value}, "absl" if flag.present else "default")
