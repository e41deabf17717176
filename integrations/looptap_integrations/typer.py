"""Command-line parameters: what ``typer`` gave the program, with the given values told from the defaults.

Up to version 0.20 or so Typer stands on the installed click, which the integration for click sees; later ones bring their own.
"""

from __future__ import annotations

import sys

from looptap.click_contexts import is_of_program, record_context
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder


class TyperIntegration(Integration):
    requires = "typer>=0.12"
    captures = (
        Capture(
            "command-line parameters: given values (source typer) told from defaults (source default), command",
            "Command.parse_args of the click in Typer",
            "each call",
        ),
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        own = sys.modules.get("typer._click.core")
        if own is not None:
            patch.observe(own.Command, "parse_args", self.on_parse)

    def on_parse(self, call: Call) -> Observation:
        context = call.args[1] if len(call.args) > 1 else call.kwargs["ctx"]
        words = call.args[2] if len(call.args) > 2 else call.kwargs.get("args")
        words = list(words or ())  # parsing takes words away from the list
        is_own = is_of_program(sys._getframe(1), context, words, "typer")
        yield
        if call.error is None and is_own:
            record_context(self.record, context, "typer")
