"""Wakes integrations: each when the program imports its framework, before or after ``autolog()``, in any order.

Integrations are found by the entry points of the group ``looptap.integrations``; ours and everybody else's in the same way.
Nothing that goes wrong in one reaches the user's import, and no framework is imported by us.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType

from looptap import importing
from looptap.guard import Guard
from looptap.integration import Integration
from looptap.patching import Patcher
from looptap.recorder import Recorder

GROUP = "looptap.integrations"


@dataclass
class Entry:
    """One integration and how it fares. ``state`` is waiting, active, disabled, unsupported or failed."""

    name: str
    load: Callable[[], type[Integration]]
    state: str = "waiting"
    #: Why it is not active, in one sentence; empty when there is nothing to say.
    reason: str = ""
    version: str | None = None
    integration: Integration | None = None
    patcher: Patcher | None = field(default=None, repr=False)
    #: What waits for the framework's import.
    hook: importing.Hook | None = field(default=None, repr=False)

    def problems(self) -> list[str]:
        """What this integration could not hook, and which of its observers failed."""
        if self.patcher is None:
            return []
        failed = [
            f"{guard.name} failed {guard.failures} times{' and was switched off' if guard.closed else ''}:"
            f" {guard.last_error}"
            for guard in self.patcher.guards
            if guard.failures
        ]
        return [*self.patcher.missing, *failed]


class Registry:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.entries: dict[str, Entry] = {}
        self.active = False
        self._lock = threading.RLock()

    def activate(self, disable: Iterable[str] = ()) -> None:
        """Install what is imported already and wait for the rest. Again after :meth:`deactivate` is fine."""
        self.active = True
        off = set(disable)
        for name, load in discover():
            entry = self.entries.setdefault(name, Entry(name, load))
            if entry.state == "active":
                continue
            entry.state, entry.reason = "waiting", ""
            if name in off:
                entry.state, entry.reason = "disabled", "switched off by the setting 'disable'"
            elif entry.hook is None:
                entry.hook = functools.partial(self._imported, entry)
                importing.when_imported(name, entry.hook)

    def deactivate(self) -> None:
        """Undo every patch, newest integration first."""
        with self._lock:
            self.active = False
            for entry in reversed(list(self.entries.values())):
                if entry.hook is not None:
                    importing.forget(entry.hook)
                    entry.hook = None
                if entry.patcher is not None:
                    entry.patcher.undo()
                    entry.patcher = None
                    entry.state, entry.reason = "waiting", "looptap.stop() was called"

    def _imported(self, entry: Entry, module: ModuleType) -> None:
        entry.hook = None
        self.wake(entry, module)

    def renew_lock(self) -> None:
        """In a forked child: the parent's other thread that held the lock does not exist here."""
        self._lock = threading.RLock()

    def wake(self, entry: Entry, module: ModuleType) -> None:
        """Install one integration; a failure is kept in the entry and goes no further."""
        with self._lock:
            if not self.active or entry.state not in ("waiting",):
                return
            guard = Guard(f"{entry.name}.install")
            patcher = Patcher(entry.name)
            with guard:
                kind = entry.load()
                # Not getattr(): a module may compute it, with a warning (click).
                entry.version = vars(module).get("__version__") or installed_version(kind.requires)
                if not supported(kind.requires, entry.version):
                    entry.state = "unsupported"
                    entry.reason = f"needs {kind.requires}, found {entry.version}"
                    return
                entry.integration = kind()
                entry.integration.record = self.recorder
                entry.integration.install(patcher, self.recorder)
                entry.patcher = patcher
                entry.state, entry.reason = "active", ""
            if guard.failures:
                patcher.undo()
                entry.state, entry.reason = "failed", guard.last_error or "unknown error"


_SIMPLE_REQUIREMENT = re.compile(r"[\w.-]+\s*>=\s*(\d+(?:\.\d+)*)")
_SIMPLE_VERSION = re.compile(r"(\d+(?:\.\d+)*)(?:\+.*)?")


def _numbers(version: str) -> tuple[int, ...]:
    """Without zeros at the end: 2.2 and 2.2.0 are the same version."""
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def discover() -> list[tuple[str, Callable[[], type[Integration]]]]:
    from importlib import metadata  # takes 10 ms, which autolog() has and the import of looptap has not

    return [(point.name, point.load) for point in metadata.entry_points(group=GROUP)]


def installed_version(requires: str) -> str | None:
    """Of the distribution that a requirement names; None when there is none."""
    from importlib import metadata

    name = re.match(r"[\w.-]+", requires)
    try:
        return metadata.version(name[0]) if name else None
    except metadata.PackageNotFoundError:
        return None


def supported(requires: str, version: str | None) -> bool:
    """A version that cannot be told is given the benefit of the doubt: missing attributes are noted by the patcher."""
    if not requires or version is None:
        return True
    # Nearly every requirement and version is this simple. The library for the rest takes 0.02 s and more to import, which the
    # program would wait for.
    simple = _SIMPLE_REQUIREMENT.fullmatch(requires)
    release = _SIMPLE_VERSION.fullmatch(str(version))
    if simple and release:
        return _numbers(release[1]) >= _numbers(simple[1])
    from packaging.requirements import Requirement

    # A local build, like 2.13.0+cpu, is the release it was built from.
    return Requirement(requires).specifier.contains(str(version).split("+")[0], prereleases=True)
