"""Command-line parameters: what ``click`` gave the program, with the given values told from the defaults.

Environment variables, prompts and default maps count as given. The options of a group and of its sub-commands lie beside each
other; ``command`` says which sub-command it was.
"""

from __future__ import annotations

import sys

import click

from looptap.click_contexts import is_of_program, record_context
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder


class ClickIntegration(Integration):
    requires = "click>=8.1"
    captures = (
        Capture(
            "command-line parameters: given values (source click) told from defaults (source default), command",
            "click.Command.parse_args",
            "each call",
        ),
    )
    not_captured = ("parameters with expose_value=False: click gives them to a callback, and not to the command",)

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        # Groups call it for their own options.
        patch.observe(click.core.Command, "parse_args", self.on_parse)

    def on_parse(self, call: Call) -> Observation:
        context = call.args[1] if len(call.args) > 1 else call.kwargs["ctx"]
        words = call.args[2] if len(call.args) > 2 else call.kwargs.get("args")
        words = list(words or ())  # parsing takes words away from the list
        is_own = is_of_program(sys._getframe(1), context, words, "click", "typer")
        yield
        if call.error is None and is_own:
            record_context(self.record, context, "click")
