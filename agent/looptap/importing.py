"""Calls us when the program imports a module, right after that module's own code has run.

One finder, first on ``sys.meta_path``, asks the others for the spec of a watched name and lets the loader that they found run
its ``exec_module`` with a call of ours behind it. Loader and spec stay the identical objects, so nothing that looks at them
(``importlib.resources``, ``inspect``, ``pkgutil``) sees a difference; the hook is gone once it has fired.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

Hook = Callable[[ModuleType], None]

_hooks: dict[str, list[Hook]] = {}
_searching = threading.local()


def when_imported(name: str, hook: Hook) -> None:
    """Call ``hook(module)`` once: now if the module has been imported, else right after it is. The hook must not raise."""
    module = sys.modules.get(name)
    if module is not None and not _is_initializing(module):
        hook(module)
        return
    _hooks.setdefault(name, []).append(hook)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def forget(hook: Hook) -> None:
    """Do not call this hook any more; without any hooks left, the finder leaves ``sys.meta_path``."""
    for name in list(_hooks):
        _hooks[name] = [other for other in _hooks[name] if other != hook]
        if not _hooks[name]:
            del _hooks[name]
    if not _hooks and _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)


class _Finder:
    """Finds nothing by itself."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _hooks or getattr(_searching, "name", None) == name:
            return None
        _searching.name = name
        try:
            spec = importlib.util.find_spec(name)
        finally:
            _searching.name = None
        if spec is not None and spec.loader is not None:
            _call_after(spec, name)
        return spec


_FINDER = _Finder()


def _call_after(spec: ModuleSpec, name: str) -> None:
    loader = spec.loader
    execute = getattr(loader, "exec_module", None)
    if execute is None:
        return

    def exec_module(module: ModuleType) -> None:
        # Gone before the module's code runs: a reload, or a second module with this loader, is not our business.
        vars(loader).pop("exec_module", None)
        execute(module)
        hooks = _hooks.pop(name, [])
        if not _hooks and _FINDER in sys.meta_path:
            sys.meta_path.remove(_FINDER)
        for hook in hooks:
            hook(module)

    try:
        # On the instance, which belongs to this one module; class and identity of the loader stay.
        loader.exec_module = exec_module  # type: ignore[union-attr,method-assign]
    except AttributeError:  # a loader without a __dict__, as of built-in modules: these are imported before us anyway
        return


def _is_initializing(module: ModuleType) -> bool:
    spec = getattr(module, "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
