"""Files that a pipeline reads: which texts are paths, and what identifies the files."""

from __future__ import annotations

import os
import re

from looptap.describing import Description, of_path
from looptap.fingerprints import Files, Fingerprint, digest

_SHOWN = 16
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]+://")


def are_paths(texts: list[str]) -> bool:
    """Whether the first and the last one are files; a text that only looks like a path is a text."""
    return bool(texts) and all(_is_path(text) for text in (texts[0], texts[-1]))


def add_files(found: Description, paths: list[str]) -> None:
    """Say where they are, how many, and what identifies them."""
    unique = list(dict.fromkeys(paths))
    endings = sorted({os.path.splitext(path)[1] for path in unique})[:_SHOWN]
    found.details = {**found.details, "files": len(unique), "endings": endings}
    if any(_ADDRESS.match(path) for path in unique):
        found.root = unique[0].partition("?")[0].rpartition("/")[0]
        # Without what opens them: a signature in an address is another one tomorrow.
        found.parts.append(Fingerprint(digest(*(path.partition("?")[0].encode() for path in unique)), "urls"))
        return
    if len(unique) == 1:
        one = of_path(unique[0])
        found.root = one.root
        found.parts += one.parts
        return
    absolute = [os.path.abspath(path) for path in unique]
    found.root = os.path.commonpath(absolute)
    found.parts.append(Files(found.root, only=tuple(os.path.relpath(path, found.root) for path in absolute)))


def _is_path(text: str) -> bool:
    try:
        return bool(_ADDRESS.match(text)) or os.path.isfile(text)
    except ValueError:  # a NUL in it
        return False
