"""The way of a question to a store. The collector and pandas are imported when the first one is asked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from looptap.session import SESSION
from looptap.settings import Settings, store_to_read

if TYPE_CHECKING:
    import pandas as pd

    from looptap_collector.backend import Backend


def flush_first() -> None:
    """What this process has recorded so far is in the store before it is asked."""
    if SESSION.run is not None:
        SESSION.flush()


def address_of(store: str | os.PathLike[str] | None) -> str:
    if store is None and SESSION.run is not None:
        return SESSION.run.store
    address = store_to_read(store)
    if address == "off":
        raise ValueError("cannot read from the store 'off': give a folder, or the address of a collector")
    return address


def settings_now() -> Settings | None:
    """Those of the run under way, which may have been given a token; None: those of the environment."""
    return SESSION.settings if SESSION.run is not None else None


@contextmanager
def opened(address: str) -> Iterator[Backend]:
    try:
        from looptap_collector.opening import open_to_read

        backend = open_to_read(address, settings_now())
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading runs needs {error.name}: pip install 'looptap[collector]'", name=error.name
        ) from error
    try:
        yield backend
    finally:
        backend.close()


def objects(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Each value as it is: a missing length does not turn the others into floats."""
    table: pd.DataFrame = imported_pandas().DataFrame(list(rows), columns=list(columns), dtype=object)
    return table


def imported_pandas() -> Any:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("tables need pandas: pip install 'looptap[pandas]'", name=error.name) from error
    return pandas
