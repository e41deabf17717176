"""From the address of a store to its backend.

======================================  ======================================================================
``/path/to/folder``                     SQLite in a folder, as the embedded collector makes it
``postgresql://user:password@host/db``  a PostgreSQL database (extra ``looptap[postgresql]``)
``mysql://user:password@host/db``       a MySQL or MariaDB database (extra ``looptap[mysql]``)
``scheme://…``                          what an installed package opens by its entry point (``docs/backends.md``)
======================================  ======================================================================

In the address of a database, characters of the password that mean something in a URL are written as ``%`` and two
digits. What stands behind ``?`` goes to the driver (``sslmode=verify-full``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from looptap_collector.backend import Store
from looptap_collector.backends.mysql import MysqlBackend
from looptap_collector.backends.postgresql import PostgresqlBackend
from looptap_collector.backends.sql import SqlBackend
from looptap_collector.embedded import open_backend

#: Entry points of packages that open other schemes: the name is the scheme in small letters, the value a function from the
#: address to a :class:`~looptap_collector.backend.Store`.
GROUP = "looptap.backends"
#: By scheme: the backend, and the name of the extra with its driver.
_ENGINES: dict[str, tuple[Callable[[URL], SqlBackend], str]] = {
    "postgresql": (PostgresqlBackend, "postgresql"),
    "postgres": (PostgresqlBackend, "postgresql"),
    "mysql": (MysqlBackend, "mysql"),
    "mariadb": (MysqlBackend, "mysql"),
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_store(address: str, *, create: bool, durable: bool = False) -> Store:
    """The store of an address. ``create`` makes a folder where there is none; tables are made in an empty database in any
    case. ``durable`` makes what is acknowledged survive a power cut in a folder too (a database server sees to it itself).

    Raises, with one line that never holds a password: ValueError for an address that makes no sense, FileNotFoundError
    for a folder without a store, RuntimeError for a driver or package that is not installed or broken,
    :class:`~looptap_collector.backends.schema.UnusableStore` for tables that are not ours or newer, and
    :class:`~looptap_collector.backend.Unavailable` for what cannot be reached now.
    """
    scheme = _scheme(address)
    found = metadata.entry_points(group=GROUP, name=scheme) if scheme and scheme not in _ENGINES else ()
    if len(found) > 1:
        raise ValueError(f"several packages open {scheme}://: {', '.join(sorted(point.value for point in found))}")
    for point in found:
        try:
            opener = point.load()
        except (ImportError, AttributeError) as error:
            raise RuntimeError(f"{point.value}, which opens {scheme}://, cannot be imported: {error}") from error
        store: Store = opener(address)
        return store
    return open_sql_store(address, create=create, durable=durable)


def open_sql_store(address: str, *, create: bool, durable: bool = False) -> SqlBackend:
    """The same for folders and databases only: those that can be upgraded, checked and copied."""
    scheme = _scheme(address)
    if scheme is None:
        return open_backend(Path(address), create=create, durable=durable)
    if scheme not in _ENGINES:
        raise ValueError(
            f"{scheme}:// is not an address of a store: give a folder, postgresql://user:password@host/database, or "
            "mysql://user:password@host/database"
        )
    backend, extra = _ENGINES[scheme]
    try:
        return backend(_url(scheme, address))
    except ModuleNotFoundError as error:
        raise RuntimeError(f"a store in {scheme}:// needs a driver: pip install 'looptap[{extra}]'") from error


def _scheme(address: str) -> str | None:
    found = _SCHEME.match(address)
    return None if found is None else found[1].lower()


def _url(scheme: str, address: str) -> URL:
    hint = f"the address of the store must look like {scheme}://user:password@host/database"
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        # The library's error shows the address, password and all.
        raise ValueError(hint) from None
    if not url.database:
        raise ValueError(hint)
    return url
