"""``looptap server`` and ``looptap token``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from looptap_collector.mistake import Mistake
from looptap_collector.opening import own_store
from looptap_collector.printable import printable

if TYPE_CHECKING:
    from looptap_collector.backend import TokenStore

_DAY_NS = 86_400 * 10**9
_store = click.option(
    "--store",
    metavar="FOLDER|URL",
    help="The store: a folder, postgresql://… or mysql://… Default: LOOPTAP_COLLECTOR_STORE, or as autolog() would.",
)


@click.command()
@_store
@click.option("--host", default="127.0.0.1", show_default=True, help="An address of this machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=8766, show_default=True, help="0 takes a free one.")
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="A name by which others ask for it; repeatable."
)
@click.option(
    "--artifacts",
    metavar="FOLDER|URL",
    envvar="LOOPTAP_ARTIFACT_STORE",
    help="Where files go: a folder, s3://…, az://… or gs://…",
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate (chain) in PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key in PEM.")
@click.option("--behind-proxy", is_flag=True, help="A proxy in front of it speaks TLS and tells whom it speaks for.")
@click.option("--writers", type=click.IntRange(1, 32), default=1, show_default=True, help="Commits at the same time.")
@click.option("--insecure-no-auth", "no_auth", is_flag=True, help="Ask nobody for a token. On loopback only.")
def server(
    store: str | None,
    host: str,
    port: int,
    hosts: tuple[str, ...],
    artifacts: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    behind_proxy: bool,
    writers: int,
    no_auth: bool,
) -> None:
    """Collect what agents send, until Ctrl-C.

    Agents find it by LOOPTAP_STORE=http://HOST:PORT, and their token in LOOPTAP_TOKEN or, on this machine, by themselves.
    """
    try:
        from looptap_collector.server.binding import CannotServe
        from looptap_collector.server.serving import ServerOptions, serve
    except ModuleNotFoundError as error:
        raise Mistake(f"the server needs {error.name}: pip install 'looptap[server]'") from error
    options = ServerOptions(
        store=own_store(store),
        artifacts=artifacts,
        host=host,
        port=port,
        allowed_hosts=hosts,
        tls_cert=tls_cert,
        tls_key=tls_key,
        behind_proxy=behind_proxy,
        no_auth=no_auth,
        writers=writers,
    )
    try:
        serve(options, click.echo)
    except CannotServe as error:
        raise Mistake(str(error)) from error


@click.group()
def token() -> None:
    """Who may ask a collector. Works on the store itself; a server takes a change within a second."""


@token.command("create")
@click.argument("name")
@click.option("--scope", type=click.Choice(["ingest", "read", "admin"]), default="ingest", show_default=True)
@click.option("--days", type=click.IntRange(1, 3650), help="How long it is good for. Default: until it is revoked.")
@_store
def create(name: str, scope: str, days: int | None, store: str | None) -> None:
    """Make a token for NAME and print it, this once.

    Runs belong to the NAME: whoever is given a token of the same name goes on with them.
    """
    from looptap_collector.server.access import Scope
    from looptap_collector.server.tokens import LOCAL_NAME, new_token, row_of

    if not 1 <= len(name) <= 255 or name == LOCAL_NAME or not name.isprintable():
        raise Mistake(f"a name has 1 to 255 printable characters and is not {LOCAL_NAME!r}")
    made = new_token()
    expires_ns = None if days is None else time.time_ns() + days * _DAY_NS
    with _tokens(store) as tokens:
        tokens.add_token(row_of(made, name, Scope(scope), expires_ns=expires_ns))
    click.echo(made)
    click.echo("keep it now: only its hash is in the store. An agent reads it from LOOPTAP_TOKEN.", err=True)


@token.command("list")
@_store
def list_tokens(store: str | None) -> None:
    """Show all tokens, never their text."""
    from rich.table import Table

    from looptap_collector.server.tokens import is_live
    from looptap_collector.terminal import console

    table = Table("id", "name", "scope", "state", "made", "last used", "good until")
    now_ns = time.time_ns()
    with _tokens(store) as tokens:
        for row in tokens.tokens():
            state = "live" if is_live(row, now_ns) else "revoked" if row.revoked_ns is not None else "expired"
            times = (_day(row.created_ns), _day(row.last_used_ns), _day(row.expires_ns))
            table.add_row(row.id, printable(row.name), row.scope, state, *times)
    console().print(table)


@token.command("revoke")
@click.argument("id")
@_store
def revoke(id: str, store: str | None) -> None:
    """Refuse the token with this ID from now on (its name may get another one)."""
    with _tokens(store) as tokens:
        if not tokens.revoke_token(id, time.time_ns()):
            raise Mistake(f"there is no token with the id {id!r}. See them all: looptap token list")
    click.echo(f"token {id} is revoked")


@contextmanager
def _tokens(store: str | None) -> Iterator[TokenStore]:
    from looptap_collector.backend import Unavailable
    from looptap_collector.backends.schema import UnusableStore
    from looptap_collector.stores import open_store

    try:
        backend = open_store(own_store(store), create=True)
    except (Unavailable, UnusableStore, ValueError, RuntimeError) as error:
        raise Mistake(str(error)) from error
    try:
        yield backend
    finally:
        backend.close()


def _day(time_ns: int | None) -> str:
    return "" if time_ns is None else datetime.fromtimestamp(time_ns / 1e9, timezone.utc).strftime("%Y-%m-%d %H:%M")


COMMANDS: list[click.Command] = [server, token]
