"""Command-line arguments: what ``fire`` calls the program's functions with, given values told from the defaults."""

from __future__ import annotations

import sys
import threading
from typing import Any

from looptap.command_lines import is_programs_own
from looptap.integration import Capture, Integration
from looptap.patching import Call, Observation, Patcher
from looptap.recorder import Recorder


class FireIntegration(Integration):
    requires = "fire>=0.5"
    captures = (
        Capture(
            "arguments of the called functions: given values (source fire) told from defaults (source default)",
            "the parsing inside of fire.Fire",
            "each call",
        ),
    )

    def install(self, patch: Patcher, record: Recorder) -> None:
        self.record = record
        self._here = threading.local()
        patch.observe("fire.core", "_Fire", self.on_fire)
        patch.observe("fire.core", "_ParseKeywordArgs", self.on_words)
        patch.observe("fire.core", "_ParseArgs", self.on_arguments)

    def on_fire(self, call: Call) -> Observation:
        here = self._here
        before = getattr(here, "is_own", False)
        words = call.args[1] if len(call.args) > 1 else None
        here.is_own = is_programs_own(sys._getframe(1), words, "fire")
        yield
        here.is_own = before

    def on_words(self, call: Call) -> Observation:
        """Right before the values are converted: what kind of function it is that is going to be called."""
        self._here.function = call.args[1]
        yield

    def on_arguments(self, call: Call) -> Observation:
        names, _, _, keywords, words, metadata = call.args
        named = {name for name, value in keywords.items() if value is not None}
        # Words without a name fill up what has none, in order.
        count = len(words) if metadata.get("ACCEPTS_POSITIONAL_ARGS") else 0
        yield
        if call.error is None and getattr(self._here, "is_own", False):
            values, others, rest, _ = call.result
            self._write(dict(zip(names, values, strict=False)), named, count, others, rest)

    def _write(self, values: dict[str, Any], named: set[str], count: int, others: dict[str, Any], rest: Any) -> None:
        """``others`` are arguments by name only, ``rest`` the words that are left."""
        given: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        for name, value in values.items():
            if name in named:
                given[name] = value
            elif count > 0:
                count -= 1
                given[name] = value
            else:
                defaults[name] = value
        function = getattr(self._here, "function", None)
        if function is not None and function.varargs and rest:
            given[function.varargs] = list(rest)
        if function is not None:
            defaults.update({key: value for key, value in (function.kwonlydefaults or {}).items() if key not in others})
        self.record.settings({**given, **others}, "fire")
        self.record.settings(defaults, "default")
