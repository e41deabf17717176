"""Stores by their address: one to read from (a folder of this machine, or a collector over HTTP), and the own store of a
collector (a folder or a database)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from looptap_collector.artifacts.store import Contents
from looptap_collector.backend import Backend
from looptap_collector.mistake import Mistake

if TYPE_CHECKING:
    from looptap.exchange import Exchange
    from looptap.settings import Settings

#: Which store ``looptap server``, ``looptap token`` and ``looptap store`` work on, where a database is no store for agents.
OWN_STORE = "LOOPTAP_COLLECTOR_STORE"
#: An answer has a million points at most, or a thousand runs with all their metrics.
_ANSWER_BYTES = 256 << 20
_REQUEST_SECONDS = 120.0
#: The page asks from several threads.
_CONNECTIONS = 40


def is_collector(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))


def own_store(given: str | None, how: str = "with --store FOLDER|URL") -> str:
    """The address of the store that a collector itself works on: what was given, the environment's, or the folder that
    ``autolog()`` would use here. ``how`` it is given to the command. Raises :class:`Mistake` for one that is somewhere else."""
    from looptap.settings import store_to_read

    wanted = given or os.environ.get(OWN_STORE)
    if wanted and "://" in wanted and not is_collector(wanted):
        return wanted
    place = "what was given" if given else OWN_STORE if wanted else "LOOPTAP_STORE"
    try:
        address = store_to_read(wanted or None, place)
    except ValueError as error:
        raise Mistake(str(error)) from None
    if address == "off" or is_collector(address):
        named = "'off'" if address == "off" else f"a collector ({address})"
        raise Mistake(
            f"{place} names {named}; this command works on the collector's own store: give it {how} or {OWN_STORE}"
        )
    return address


def open_to_read(address: str, settings: Settings | None = None) -> Backend:
    """``address`` as :func:`looptap.settings.resolve_store` gives it. A collector is asked only when there is a question, with
    the token of ``settings`` (default: those of the environment).

    Raises FileNotFoundError for a folder without a store, and OSError in one line where a token must not be sent.
    """
    if is_collector(address):
        from looptap_collector.remote import RemoteBackend

        return RemoteBackend(_exchange(address, settings))
    from looptap_collector.embedded import open_backend

    return open_backend(Path(address), create=False)


def contents_to_read(address: str, settings: Settings | None = None) -> Contents:
    """The files of that store. Raises OSError as :func:`open_to_read` does."""
    if is_collector(address):
        from looptap_collector.remote import RemoteContents

        return RemoteContents(_exchange(address, settings))
    from looptap_collector.embedded import artifacts_of

    return artifacts_of(Path(address))


def _exchange(address: str, settings: Settings | None) -> Exchange:
    # The agent's, so that there is one way to a collector and one rule which token goes where.
    from looptap.exchange import Exchange

    return Exchange(address, settings, seconds=_REQUEST_SECONDS, answer_bytes=_ANSWER_BYTES, connections=_CONNECTIONS)
