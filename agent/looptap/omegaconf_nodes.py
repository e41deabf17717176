"""What an OmegaConf configuration holds, without an exception and without running a resolver of the program's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_RESOLVERS = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*:\s*([^,}\s]*)")
_REFERENCE = re.compile(r"\$\{\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*\}")
#: Those that come with OmegaConf and Hydra, and only look something up.
_HARMLESS = {"oc.select", "oc.decode", "oc.create", "oc.dict.keys", "oc.dict.values", "oc.deprecated", "hydra", "now"}
_DEPTH_LIMIT = 8


def container(config: Any, is_secret: Callable[[str], bool]) -> dict[str, Any]:
    """A DictConfig as a dict with dicts and lists inside. Values that are missing (``???``) are left out.

    References to other values are resolved. One that leads nowhere stays as it is written; so does one that calls a function of
    the program, which may have effects, and an environment variable that is named like a secret.
    """
    found = _plain(config, not _is_risky(config, is_secret), 0)
    return found if isinstance(found, dict) else {}


def _plain(node: Any, may_resolve: bool, depth: int) -> Any:
    content = node._content
    if isinstance(content, dict):
        items = {}
        for key, child in content.items():
            value = _value(node, key, child, may_resolve, depth)
            if value is not _LEFT_OUT:
                items[key if isinstance(key, str) else str(key)] = value
        return items
    if isinstance(content, list):
        values = [_value(node, index, child, may_resolve, depth) for index, child in enumerate(content)]
        return [value for value in values if value is not _LEFT_OUT]
    return None if content is None else str(content)


def _value(parent: Any, key: Any, node: Any, may_resolve: bool, depth: int) -> Any:
    if node._is_missing():
        return _LEFT_OUT
    if node._is_interpolation():
        written = str(node._value())
        if not may_resolve and not _leads_to_values(node._get_root(), written):
            return written
        try:
            node = parent._maybe_resolve_interpolation(
                parent=parent, key=key, value=node, throw_on_resolution_failure=False
            )
        except Exception:  # noqa: BLE001 - whatever a resolver raises: what is written is the setting
            return written
        if node is None:
            return written
        if node._is_missing():
            return _LEFT_OUT
    if not hasattr(node, "_content"):
        return node._value()
    return _plain(node, may_resolve, depth + 1) if depth < _DEPTH_LIMIT else str(node)


_LEFT_OUT = object()


def _leads_to_values(root: Any, written: str) -> bool:
    """Whether all that is to be filled in are references (``${model.width}``) to values that have none themselves."""
    if "${" in _REFERENCE.sub("", written):
        return False
    for path in _REFERENCE.findall(written):
        node = root
        for key in path.split("."):
            content = getattr(node, "_content", None)
            node = content.get(key) if isinstance(content, dict) else None
            if node is None or node._is_interpolation():
                return False
    return True


def _is_risky(config: Any, is_secret: Callable[[str], bool]) -> bool:
    """Whether anything in the whole tree, which references may lead to, calls what we must not call."""
    waiting = [config._get_root()]
    while waiting:
        node = waiting.pop()
        content = node._content if hasattr(node, "_content") else node._value()
        if isinstance(content, dict):
            waiting.extend(content.values())
        elif isinstance(content, list):
            waiting.extend(content)
        elif isinstance(content, str) and "${" in content:
            for name, argument in _RESOLVERS.findall(content):
                if name == "oc.env" and "$" not in argument and not is_secret(argument):
                    continue
                if name not in _HARMLESS:
                    return True
    return False
