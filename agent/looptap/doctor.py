"""``looptap doctor``: whether this machine and environment are fit, line by line. A line that begins with ``!`` is a problem."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import metadata
from pathlib import Path

from looptap import registry, settings
from looptap.resources import Absent, Subject


def report() -> Iterator[str]:
    """One line at a time. Imports integrations, and so their frameworks where these are installed; installs no hook."""
    loaded, problems = settings.load()
    yield from (f"! {problem}" for problem in problems)
    yield from _store(loaded)
    root = settings.journal_root(loaded)
    if root is None:
        yield "! journal: no home folder to put it in; records would only be kept in memory. Set LOOPTAP_JOURNAL to a folder."
    else:
        yield f"journal: {root}"
        yield from _place("journal", str(root))
        yield from _left_behind(root)
    if not loaded.enabled:
        yield "! looptap is switched off by the setting 'enabled'"
    yield from _resources(loaded)
    absent: list[str] = []
    for name, load in registry.discover():
        if _is_installed(name):
            yield from _integration(name, load, name in loaded.disable)
        else:
            absent.append(name)
    if absent:
        yield f"not installed here: {', '.join(absent)}"


def _is_installed(module: str) -> bool:
    """Without importing it: some frameworks take seconds."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _version_of_module(module: str) -> str | None:
    """Of the package that brings it under another name than its own, as tensorflow-cpu does."""
    packages = metadata.packages_distributions().get(module.partition(".")[0])
    return metadata.version(packages[0]) if packages else None


@contextmanager
def _hushed() -> Iterator[None]:
    """What a framework writes to standard error while it is imported is no finding. TensorFlow does so below Python."""
    before = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _store(loaded: settings.Settings) -> Iterator[str]:
    try:
        store = settings.store_to_read()
    except ValueError as error:
        fallback = settings.resolve_store(loaded.store)
        yield f"! store: {error}. Nothing can be read; a training would record into {fallback}"
        return
    yield f"store: {store}"
    yield from _place("store", store)
    if settings.is_collector(store):
        yield _collector(store, loaded)


def _place(what: str, folder: str) -> Iterator[str]:
    if folder == "off" or settings.is_collector(folder):
        return
    existing = Path(folder)
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not os.access(existing, os.W_OK | os.X_OK):
        yield f"! {what}: {existing} cannot be written; set LOOPTAP_{what.upper()} to a folder that can"
        return
    usage = shutil.disk_usage(existing)
    if usage.free < 0.05 * usage.total:
        yield f"! {what}: less than 5 % of the disk of {existing} is free; the journal stops taking points there"


def _collector(store: str, loaded: settings.Settings) -> str:
    from looptap.sinks import Unavailable, open_sink

    try:
        with closing(open_sink(store, loaded)) as sink:
            sink.position("doctor")  # of a journal that nobody has
    except Unavailable as error:
        return f"! store: {error}"
    return "  the collector there answers, and accepts the token"


def _left_behind(root: Path) -> Iterator[str]:
    from looptap.journal.folder import find_journals

    waiting = len(find_journals(root)) if root.is_dir() else 0
    if waiting:
        yield f"  {waiting} journals there belong to runs under way or could not be delivered yet (looptap sync)"


def _resources(loaded: settings.Settings) -> Iterator[str]:
    if not loaded.resources:
        yield "resources: switched off by the setting 'resources'"
        return
    from looptap.resources.sampler import discover

    subject = Subject.of_this_process(lambda: None, os.getcwd(), lambda message: None)
    read, problems = [], []
    for name, load in discover().items():
        try:
            reader = load()()
            try:
                reader.open(subject)
            finally:
                reader.close()
            read.append(name)
        except Absent as error:
            problems.append(f"  - {name}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever a third-party reader raises is the answer
            problems.append(f"! {name}: {error}")
    yield f"resources: {', '.join(read)}"
    yield from problems


def _integration(name: str, load: object, disabled: bool) -> Iterator[str]:
    if disabled:
        yield f"{name}: disabled by the setting 'disable'"
        return
    try:
        with _hushed():
            kind = load()  # type: ignore[operator]
    except ModuleNotFoundError as error:
        yield f"{name}: not installed here ({error.name})"
        return
    except Exception as error:  # noqa: BLE001 - whatever a third-party integration raises is the answer
        yield f"! {name}: its integration cannot be loaded: {type(error).__name__}: {error}"
        return
    version = registry.installed_version(kind.requires) or _version_of_module(name)
    if not registry.supported(kind.requires, version):
        yield f"! {name} {version}: not captured; needs {kind.requires}"
        return
    yield f"{name}{f' {version}' if version else ''}: captured"
    yield from (f"  + {capture.what}" for capture in kind.captures)
    yield from (f"  - {text}" for text in kind.not_captured)
