"""Command-line arguments: what ``argparse`` gave the program, with the given values told from the defaults.

Sub-commands and parents are part of the one result. What libraries parse for themselves (pip, pytest) is left alone.
"""

from __future__ import annotations

import argparse
import sys
import threading
from typing import Any

from looptap.command_lines import is_programs_own
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder


class ArgparseIntegration(Integration):
    captures = (
        Capture(
            "command-line arguments: given values (source argparse) told from defaults (source default)",
            "ArgumentParser.parse_known_args",
            "each call",
        ),
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        self._here = _Parsing()
        # parse_args calls parse_known_args, and so do sub-parsers and the intermixed form.
        patch.observe(argparse.ArgumentParser, "parse_known_args", self.on_parse)
        patch.observe(argparse.ArgumentParser, "parse_known_intermixed_args", self.on_parse)
        patch.observe(argparse.ArgumentParser, "_get_values", self.on_values)

    def on_parse(self, call: Call) -> Observation:
        here = self._here
        if here.depth == 0:
            here.given = set()
            words = call.args[1] if len(call.args) > 1 else call.kwargs.get("args")
            here.is_own = is_programs_own(sys._getframe(1), words, "argparse", "absl")
        here.depth += 1
        yield
        here.depth -= 1
        if here.depth == 0 and call.error is None and here.is_own:
            self._write(call.result[0], here.given)

    def on_values(self, call: Call) -> Observation:
        """Called for every option that was given, and for every positional, with no words where it was left out."""
        action, words = call.args[1], call.args[2]
        if action.option_strings or words:
            self._here.given.add(action.dest)
        yield

    def _write(self, namespace: Any, given: set[str]) -> None:
        values = dict(getattr(namespace, "__dict__", {}))
        for source, chosen in (("argparse", True), ("default", False)):
            self.record.settings({key: value for key, value in values.items() if (key in given) is chosen}, source)


class _Parsing(threading.local):
    """What this thread is parsing; sub-parsers run inside of their parent's call."""

    def __init__(self) -> None:
        self.depth = 0
        self.given: set[str] = set()
        self.is_own = False
