"""``looptap run -m torch.distributed.run train.py``: a program that starts others is not what is to be recorded, they are.

torchrun starts each process anew, so its processes would know nothing of looptap. Its command line is changed to what one could
have typed as well: ``torchrun … -m looptap run train.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

TORCHRUN = ("torch.distributed.run", "torch.distributed.launch")


def through_looptap(name: str, arguments: Sequence[str], settings: dict[str, Any]) -> list[str]:
    """The arguments of this module with which each process that it starts is recorded with these settings. Unchanged for modules
    that start none, and where torchrun is to start another program than Python. Exits as torchrun does for arguments that it does
    not understand."""
    given = list(arguments)
    if name not in TORCHRUN:
        return given
    # The program is about to run this very module; looptap itself needs no framework.
    torchrun = importlib.import_module(TORCHRUN[0])
    known, _ = torchrun.get_args_parser().parse_known_args(given)
    place = len(given) - len(known.training_script_args) - 1
    if known.no_python or place < 0 or given[place] != known.training_script:
        return given
    run = ["looptap", "run", *_options(settings)]
    if known.module:
        return [*given[:place], *run, "-m", *given[place:]]
    return [*given[:place], "--module", *run, *given[place:]]


def _options(settings: dict[str, Any]) -> list[str]:
    options: list[str] = []
    for key, value in settings.items():
        if value is True:
            options.append(f"--{key}")
        elif value is not None:
            options += [f"--{key}", str(value)]
    return options
