"""``--store`` of the commands that read: which store that is, and the run in it that was asked for. Whatever is wrong with either
is told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from looptap_collector.backend import Backend, RunRow, Unavailable
from looptap_collector.mistake import Mistake
from looptap_collector.query import UnknownRun, find_run

store_option = click.option(
    "--store",
    metavar="STORE",
    help="A folder, or a collector: https://host:port. Default: the one autolog() would use here.",
)


@contextmanager
def opened(store: str | None) -> Iterator[Backend]:
    """The backend of the store that ``--store`` or the settings name, closed afterwards. Runs that have fallen silent are
    marked first; a collector does that itself."""
    address = store_address(store)
    backend = _open(address)
    try:
        # A store that can only be read is still worth reading.
        with suppress(Exception):
            _mark_lost(address, backend)
        yield backend
    except Unavailable as error:
        raise Mistake(str(error)) from error
    finally:
        backend.close()


@contextmanager
def run_of(store: str | None, which: str) -> Iterator[tuple[Backend, RunRow]]:
    """The store, opened, and the run of that id, beginning of an id or name in it."""
    with opened(store) as backend:
        try:
            row = find_run(backend, which)
        except UnknownRun as error:
            raise Mistake(f"{error}. See them all: looptap runs") from error
        yield backend, row


def store_address(store: str | None) -> str:
    """A folder, or a collector's address."""
    from looptap.settings import store_to_read

    try:
        resolved = store_to_read(store, "--store")
    except ValueError as error:
        raise Mistake(str(error)) from None
    if resolved == "off":
        raise Mistake("the store is 'off', so there is nothing to read; name a folder or a collector with --store")
    return resolved


def _mark_lost(address: str, backend: Backend) -> None:
    from looptap.reading import runs_with_journals
    from looptap_collector.liveness import mark_lost
    from looptap_collector.opening import is_collector

    if not is_collector(address):
        mark_lost(backend, runs_with_journals())


def _open(address: str) -> Backend:
    try:
        from looptap_collector.opening import is_collector, open_to_read

        return open_to_read(address)
    except ModuleNotFoundError as error:
        raise Mistake(f"reading a store needs {error.name}: pip install 'looptap[collector]'") from error
    except FileNotFoundError as error:
        raise Mistake(
            f"there is no store at {address}; record a run first (looptap run train.py) or name another with --store"
        ) from error
    except Exception as error:
        if is_collector(address):
            raise Mistake(str(error)) from error
        raise Mistake(f"the store at {address} cannot be opened: {type(error).__name__}: {error}") from error
