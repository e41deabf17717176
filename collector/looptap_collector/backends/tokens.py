"""Who may ask a collector, in the table of tokens."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, func, insert, or_, select, update

from looptap_collector.backend import TokenRow
from looptap_collector.backends import tables

_columns = tables.token.c


def all_tokens(connection: Connection) -> list[TokenRow]:
    rows = connection.execute(select(tables.token).order_by(_columns.created_ns, _columns.id))
    return [TokenRow(**{name: getattr(row, name) for name in TokenRow.__struct_fields__}) for row in rows]


def add(connection: Connection, token: TokenRow) -> None:
    taken = select(_columns.id).where(or_(_columns.id == token.id, _columns.hash == token.hash))
    if connection.execute(taken).first() is not None:
        raise ValueError(f"a token with the id {token.id!r}, or with the same hash, is there already")
    connection.execute(insert(tables.token), msgspec.structs.asdict(token))


def revoke(connection: Connection, id: str, at_ns: int) -> bool:
    # Not told by the number of rows: engines count those that stay as they are differently.
    if connection.execute(select(_columns.id).where(_columns.id == id)).first() is None:
        return False
    first = func.coalesce(_columns.revoked_ns, at_ns)
    connection.execute(update(tables.token).where(_columns.id == id).values(revoked_ns=first))
    return True


def used(connection: Connection, id: str, at_ns: int) -> None:
    is_later = func.coalesce(_columns.last_used_ns, -1) < at_ns
    connection.execute(update(tables.token).where(_columns.id == id, is_later).values(last_used_ns=at_ns))
