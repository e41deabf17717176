"""The fingerprint of the weights in a file that a run wrote."""

from __future__ import annotations

from looptap.arrays import safetensors_files, torch_files
from looptap.digests import OpenFile, Unobtainable
from looptap.events import File

_HEAD_BYTES = 9


def weights_in(file: File) -> str | None:
    """Of the largest model in it; None where there is none that can be told, or the file is no longer what was noticed. Takes its
    time for a large one."""
    if file.kind != "model":
        return None
    try:
        opened = OpenFile(file)
    except Unobtainable:
        return None
    try:
        head = opened.piece(0, _HEAD_BYTES)
        if head.startswith(b"PK"):
            return torch_files.weights(opened)
        return safetensors_files.weights(opened) if head.endswith(b"{") else None
    except Exception:  # noqa: BLE001 - anything may look like one and be something else
        return None
    finally:
        opened.close()
