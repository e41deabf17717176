"""Whose command line is it? Libraries parse words too, inside of a training run: pip, pytest, a compiler's front end, our own
commands. Only what the program itself was given are its settings.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Sequence
from functools import lru_cache
from types import FrameType

#: Some of these stand on others: what argparse reads for hydra are options of hydra, and not of the program.
_PARSERS = {"argparse", "optparse", "click", "typer", "fire", "absl", "hydra"}
_BETWEEN = ("looptap.patching", "looptap.launch", "looptap_integrations")
_DEPTH_LIMIT = 200


def is_programs_own(frame: FrameType | None, words: Sequence[str] | None, *parsers: str) -> bool:
    """Whether a parse of these ``words`` (None: those of the process), begun below ``frame``, is of the program.

    It is when the program's own code asked for it, or when a library did and parses the command line of the process
    (``HfArgumentParser``, ``LightningCLI``). ``parsers`` are the packages that it goes through.
    """
    for _ in range(_DEPTH_LIMIT):
        if frame is None:
            return False
        name, filename = str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename
        package = name.split(".")[0]
        if package in parsers or name.startswith(_BETWEEN) or (is_standard(filename) and package not in _PARSERS):
            frame = frame.f_back
            continue
        if package in _PARSERS or package.startswith("looptap"):
            return False
        return not is_library(filename) or words is None or list(words) in (sys.argv[1:], sys.argv)
    return False


@lru_cache(maxsize=4096)
def is_library(filename: str) -> bool:
    """Whether this source file was installed, and is none of the program's own."""
    if filename.startswith("<frozen"):
        return True
    return is_standard(filename) or any(part in ("site-packages", "dist-packages") for part in filename.split(os.sep))


@lru_cache(maxsize=4096)
def is_standard(filename: str) -> bool:
    """Whether this is a source file of Python's own library."""
    if filename.startswith("<frozen"):
        return True
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    return any(
        filename.startswith(folder + os.sep)
        and "site-packages" not in filename[len(folder) :]
        and "dist-packages" not in filename[len(folder) :]
        for folder in folders
        if folder
    )
