"""Names of fields: ``status``, ``git.commit``, ``params.optimizer.lr``, ``metrics.loss{phase=test}.min``, ``tags."a b"``."""

from __future__ import annotations

import difflib
import re
from typing import Literal, TypeAlias

from looptap_collector.filters.literals import unquoted
from looptap_collector.filters.tree import Field, FilterError

Kind: TypeAlias = Literal["text", "time", "duration", "number", "any"]

RUN_FIELDS: dict[str, Kind] = {
    "id": "text",
    "name": "text",
    "experiment": "text",
    "status": "text",
    "kind": "text",
    "started": "time",
    "ended": "time",
    "duration": "duration",
    "host": "text",
    "user": "text",
    "script": "text",
    "git.commit": "text",
    "git.branch": "text",
}
STATS = ("last", "min", "max", "count", "first_step", "last_step")
KNOWN = ", ".join((*RUN_FIELDS, "params.KEY", "tags.KEY", "metrics.KEY"))

# No two parts of these patterns can begin with the same character, so a match never goes back over what it has read.
QUOTED = r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'"
_BARE = r"[\w/-]+"
_CONTEXT = rf"\{{(?:[^{{}}\"']|{QUOTED})*\}}"
#: A whole name, from its first letter on.
NAME = rf"[^\W\d]\w*(?:\.(?:{_BARE}|{QUOTED}))*(?:{_CONTEXT}(?:\.\w+)?)?"

_WHOLE = re.compile(NAME, re.DOTALL)
_PART = re.compile(rf"\.?(?:(?P<bare>{_BARE})|(?P<quoted>{QUOTED})|(?P<context>{_CONTEXT}))", re.DOTALL)
_ITEM = re.compile(rf"\s*({QUOTED}|[\w/.-]+)\s*=\s*({QUOTED}|[\w/.-]+)\s*(?:,|$)", re.DOTALL)


def kind_of(field: Field) -> Kind:
    """What the field's values are; a param's may be of any kind."""
    if field.source == "run":
        return RUN_FIELDS[field.key]
    return {"params": "any", "tags": "text", "metrics": "number"}[field.source]  # type: ignore[return-value]


def parse_field(text: str, position: int = 0, whole: str = "filter") -> Field:
    """The field that ``text``, standing at ``position`` of the ``whole``, names. Raises :class:`FilterError`."""
    if not _WHOLE.fullmatch(text):
        raise FilterError(f"{_shown(text)} is not a field; known are {KNOWN}", position, whole)
    source, *parts = list(_PART.finditer(text))
    root = source.group()
    if root not in ("params", "tags", "metrics"):
        if text in RUN_FIELDS:
            return Field("run", text)
        raise FilterError(f"there is no field {_shown(text)}; {_guess(text)}known are {KNOWN}", position, whole)
    stat, context = "last", None
    if root == "metrics":
        if len(parts) > 1 and parts[-1]["bare"] in STATS:
            stat = parts.pop().group("bare")
        if parts and parts[-1]["context"]:
            context = _context(parts.pop(), position, whole)
    keys = [part["bare"] or unquoted(part["quoted"] or "", position + part.start("quoted"), whole) for part in parts]
    if any(part["context"] for part in parts):
        after = ", ".join(STATS) if root == "metrics" else "nothing"
        raise FilterError(f"after a context of {root} comes {after}", position + parts[-1].start(), whole)
    key = ".".join(keys)
    if not key:
        raise FilterError(f"{root} needs a key: {root}.KEY", position + len(root), whole)
    return Field(root, key, stat, context)  # type: ignore[arg-type]


def _context(part: re.Match[str], position: int, whole: str) -> tuple[tuple[str, str], ...]:
    inside = part["context"][1:-1]
    items: dict[str, str] = {}
    at = 0
    while at < len(inside.rstrip()):
        item = _ITEM.match(inside, at)
        start = position + part.start("context") + 1 + at
        if not item:
            raise FilterError(
                "a context is {name=value, …}, with quotes where a name or value has odd characters", start, whole
            )
        name, value = (unquoted(text, start, whole) if text[0] in "\"'" else text for text in item.groups())
        items[name] = value
        at = item.end()
    return tuple(sorted(items.items()))


def _guess(text: str) -> str:
    root, dot, rest = text[:64].partition(".")
    tried = [(text[:64], list(RUN_FIELDS), "")]
    if dot:
        tried.insert(0, (root, ["params", "tags", "metrics"], dot + rest))
    for wrong, right, more in tried:
        for near in difflib.get_close_matches(wrong, right, n=1, cutoff=0.7):
            return f"did you mean {_shown(near + more)}? "
    return ""


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
