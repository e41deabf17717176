"""What a click command was given. For click itself and for Typer, which brings a click of its own; neither is imported here."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from looptap.command_lines import is_library, is_programs_own
from looptap.plain import text
from looptap.recorder import Recorder
from looptap.redaction import REDACTED


def record_context(record: Recorder, context: Any, source: str) -> None:
    """The parameters of one command whose words have been parsed, and which sub-command it is."""
    if context.resilient_parsing:  # for completion in a shell: nothing is going to run
        return
    if context.parent is not None:
        record.settings({"command": " ".join(_names(context))}, source)
    hidden = {parameter.name for parameter in context.command.params if getattr(parameter, "hide_input", False)}
    for name, value in context.params.items():
        where = context.get_parameter_source(name)
        chosen = (
            "default" if where is None or (where.name.startswith("DEFAULT") and where.name != "DEFAULT_MAP") else source
        )
        record.settings({name: REDACTED if name in hidden and value is not None else _plain(value)}, chosen)


def is_of_program(frame: FrameType | None, context: Any, words: Sequence[str], *parsers: str) -> bool:
    """Whether this command is the program's own, and not one of a library (or of ours) that the program calls."""
    root = context
    while root.parent is not None:
        root = root.parent
    callback = inspect.unwrap(root.command.callback) if root.command.callback is not None else None
    code = getattr(callback, "__code__", None)
    if code is not None and context.parent is None and list(words) != sys.argv[1:] and is_library(code.co_filename):
        return False
    if str(getattr(callback, "__module__", "")).split(".")[0] in ("looptap", "looptap_collector"):
        return False
    return is_programs_own(frame, words if context.parent is None else None, *parsers)


def _names(context: Any) -> list[str]:
    """Of the commands below the program, outermost first."""
    return [] if context.parent is None else [*_names(context.parent), str(context.info_name)]


def _plain(value: Any) -> Any:
    """A file that click opens is told by its name; anything that may raise when it is looked at by its class."""
    if hasattr(type(value), "read") or type(value).__name__ in ("LazyFile", "KeepOpenFile"):
        name = getattr(value, "name", None)
        return name if isinstance(name, str) else text(value)
    return value
