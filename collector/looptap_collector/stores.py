"""From the address of a store to its backend.

======================================  ======================================================================
``/path/to/folder``                     SQLite in a folder, as the embedded collector makes it
``postgresql://user:password@host/db``  a PostgreSQL database (extra ``looptap[postgresql]``)
``mysql://user:password@host/db``       a MySQL or MariaDB database (extra ``looptap[mysql]``)
======================================  ======================================================================

In the address of a database, characters of the password that mean something in a URL are written as ``%`` and two
digits. What stands behind ``?`` goes to the driver (``sslmode=verify-full``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from looptap_collector.backends.mysql import MysqlBackend
from looptap_collector.backends.postgresql import PostgresqlBackend
from looptap_collector.backends.sql import SqlBackend
from looptap_collector.embedded import open_backend

#: By scheme: the backend, and the name of the extra with its driver.
_ENGINES: dict[str, tuple[Callable[[URL], SqlBackend], str]] = {
    "postgresql": (PostgresqlBackend, "postgresql"),
    "postgres": (PostgresqlBackend, "postgresql"),
    "mysql": (MysqlBackend, "mysql"),
    "mariadb": (MysqlBackend, "mysql"),
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_store(address: str, *, create: bool, durable: bool = False) -> SqlBackend:
    """The store of an address. ``create`` makes a folder where there is none; tables are made in an empty database in any
    case. ``durable`` makes what is acknowledged survive a power cut in a folder too (a database server sees to it itself).

    Raises, with one line that never holds a password: ValueError for an address that makes no sense, FileNotFoundError
    for a folder without a store, RuntimeError for a driver that is not installed,
    :class:`~looptap_collector.backends.schema.UnusableStore` for tables that are not ours or newer, and
    :class:`~looptap_collector.backend.Unavailable` for what cannot be reached now.
    """
    scheme = _SCHEME.match(address)
    if scheme is None:
        return open_backend(Path(address), create=create, durable=durable)
    name = scheme[1].lower()
    if name not in _ENGINES:
        raise ValueError(
            f"{name}:// is not an address of a store: give a folder, postgresql://user:password@host/database, or "
            "mysql://user:password@host/database"
        )
    backend, extra = _ENGINES[name]
    try:
        return backend(_url(name, address))
    except ModuleNotFoundError as error:
        raise RuntimeError(f"a store in {name}:// needs a driver: pip install 'looptap[{extra}]'") from error


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
