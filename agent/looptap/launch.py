"""``looptap run script.py``: the program as ``python script.py`` would run it, with ``autolog()`` called first.

The script becomes the real ``__main__`` module (so pickling and multiprocessing find its names), its folder stands first on
``sys.path``, ``sys.argv`` is what it would be, its exceptions are printed without frames of ours, and its exit code is kept.
"""

from __future__ import annotations

import io
import os
import runpy
import sys
import types
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from typing import Any

import looptap
from looptap import children, lifetime
from looptap.launchers import through_looptap
from looptap.session import SESSION


def run_script(path: str, arguments: Sequence[str], settings: dict[str, Any]) -> int:
    """Run a file as the main program; returns its exit code. Raises FileNotFoundError when there is no such file."""
    filename = os.path.abspath(os.path.join(path, "__main__.py") if os.path.isdir(path) else path)
    # open_code: what the interpreter itself uses for source, so audit hooks see a script here and not some data file.
    with io.open_code(filename) as file:
        source = file.read()
    sys.argv = [path, *arguments]
    _replace_first_path(os.path.dirname(filename))
    main = types.ModuleType("__main__")
    main.__file__ = filename
    main.__loader__ = SourceFileLoader("__main__", filename)
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main

    def program() -> None:
        exec(compile(source, filename, "exec", dont_inherit=True), main.__dict__)

    return _run(program, settings)


def run_module(name: str, arguments: Sequence[str], settings: dict[str, Any]) -> int:
    """Run a module as ``python -m name`` would; returns its exit code. Where it is a launcher, what it starts is recorded."""
    given = through_looptap(name, arguments, settings)
    sys.argv = [name, *given]
    _replace_first_path(os.getcwd())
    trains = given == [*arguments]  # else it is a launcher
    return _run(lambda: runpy.run_module(name, run_name="__main__", alter_sys=True), settings, trains)


def _run(program: Any, settings: dict[str, Any], trains: bool = True) -> int:
    SESSION.command_line = settings
    looptap.autolog()
    if SESSION.settings.serving:
        children.reach(settings)
    if trains:
        lifetime.awaits_training()
    try:
        program()
    except SystemExit as leaving:
        lifetime.leaves(leaving)
        raise
    except (Exception, KeyboardInterrupt) as error:  # the program may raise anything; it is printed as python would
        # Ours are the outermost frames; the user's traceback begins behind them, as if we were not there.
        traceback = error.__traceback__
        while traceback is not None and _is_ours(traceback.tb_frame.f_code.co_filename):
            traceback = traceback.tb_next
        error.__traceback__ = traceback
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback
        if sys.version_info >= (3, 12):
            sys.last_exc = error
        sys.excepthook(type(error), error, traceback)
        if isinstance(error, KeyboardInterrupt):
            # Only an interpreter that this reaches dies of the signal, as python would; it has been printed.
            sys.excepthook = lambda *_: None
            raise
        return 1
    return 0


def _is_ours(filename: str) -> bool:
    return filename == __file__ or os.path.basename(filename) == "runpy.py" or filename.startswith("<frozen runpy")


def _replace_first_path(folder: str) -> None:
    # The first entry is where the looptap command lies; a script expects its own folder there.
    sys.path[0] = folder
