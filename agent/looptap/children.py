"""Servers start their workers as new processes (``uvicorn --workers``, LitServe, BentoML, Ray Serve), which know nothing of how the
first one was started. ``looptap run --serving`` reaches them as other launchers of this kind do: by the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from looptap import settings
from looptap.session import SESSION

#: Has a module ``sitecustomize`` in it.
_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "in_children")


def reach(typed: Mapping[str, Any]) -> None:
    """Every process of Python that this one starts from now on, and those that they start, answers on record: with the settings
    that were ``typed``, and into the same store."""
    wanted = {name: str(value) for name, value in typed.items() if value is not None}
    wanted["serving"] = "true"
    wanted["store"] = settings.resolve_store(SESSION.settings.store or None, SESSION.recorder.folder)
    os.environ.update({f"LOOPTAP_{name.upper()}": value for name, value in wanted.items()})
    before = os.environ.get("PYTHONPATH")
    paths = [] if not before else [path for path in before.split(os.pathsep) if path != _FOLDER]
    os.environ["PYTHONPATH"] = os.pathsep.join([_FOLDER, *paths])
