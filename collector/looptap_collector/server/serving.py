"""Run a collector in this process until it is told to stop."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from looptap_collector.artifacts import ArtifactsUnavailable, open_artifacts
from looptap_collector.artifacts.uploads import Uploads
from looptap_collector.backend import Unavailable
from looptap_collector.backends.schema import UnusableStore
from looptap_collector.embedded import ARTIFACTS
from looptap_collector.server.app import create_app
from looptap_collector.server.binding import CannotServe, address_of, is_loopback, listen
from looptap_collector.server.protocol import bounded
from looptap_collector.server.tokens import Keyring, UnsafeTokenFile, ensure_local_token
from looptap_collector.stores import open_store

#: Agents send about once a second, and a sign of life every ten.
_KEEP_ALIVE_SECONDS = 75
_SHUTDOWN_SECONDS = 10


@dataclass(frozen=True)
class ServerOptions:
    """What ``looptap server`` is told. ``store`` is a folder or the URL of a database. ``artifacts`` is where files go: a folder
    or the URL of an object store; None where the store is a folder, for the one in it."""

    store: str
    artifacts: str | None = None
    host: str = "127.0.0.1"
    port: int = 8766
    allowed_hosts: Sequence[str] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False
    no_auth: bool = False
    writers: int = 1


def serve(options: ServerOptions, say: Callable[[str], None] = print) -> None:
    """Returns after SIGINT or SIGTERM, when what was received is stored. Raises :class:`CannotServe`, in one line."""
    check_binding(options)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with listen(options.host, options.port) as listener:
        app, place = _open(options, say)

        def tell() -> None:
            say(f"looptap: collecting at {address_of(listener, _scheme(options))} into {place} · Ctrl-C to stop")
            if options.no_auth:
                say("looptap: WARNING: nobody is asked for a token: all who reach this address may do everything")

        server = _Server(config(app, options), tell)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            say("")


class _Server(uvicorn.Server):
    """Tells when it takes requests (and signals)."""

    def __init__(self, config: uvicorn.Config, tell: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._tell()


def _open(options: ServerOptions, say: Callable[[str], None]) -> tuple[FastAPI, str]:
    """The app, and what its store may be called in public: an address may hold a password."""
    try:
        artifacts = open_artifacts(_artifacts_address(options))
        backend = open_store(options.store, create=True, durable=True)
    except (ArtifactsUnavailable, Unavailable, UnusableStore, ValueError, RuntimeError) as error:
        raise CannotServe(str(error)) from error
    try:
        keyring = None
        if not options.no_auth:
            try:
                say(f"looptap: token of this machine's user in {ensure_local_token(backend)}")
            except (UnsafeTokenFile, OSError) as error:
                raise CannotServe(str(error)) from error
            keyring = Keyring(backend)
            keyring.refresh()
        uploads = Uploads(_spool(options), artifacts)
        app = create_app(backend, artifacts, uploads, keyring=keyring, hosts=_hosts(options), writers=options.writers)
        return app, backend.place
    except BaseException:
        backend.close()
        raise


def _artifacts_address(options: ServerOptions) -> str | Path:
    if options.artifacts is not None:
        return options.artifacts
    if "://" in options.store:
        raise CannotServe(
            "where the store is a database, say where files go: --artifacts FOLDER or s3://, az://, gs://…"
        )
    return Path(options.store) / ARTIFACTS


def _spool(options: ServerOptions) -> Path:
    """Where unfinished uploads wait: beside the store, or in the state folder of the user."""
    if "://" not in options.store:
        return Path(options.store) / "uploads"
    state = os.environ.get("XDG_STATE_HOME")
    home = Path(state) if state and os.path.isabs(state) else Path.home() / ".local" / "state"
    return home / "looptap" / "uploads"


def config(app: FastAPI, options: ServerOptions) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=bounded(app.state.service.measures.connections_dropped),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=options.behind_proxy,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
    )


def check_binding(options: ServerOptions) -> None:
    """Raises :class:`CannotServe` for an address that others reach in a way that is not safe."""
    if (options.tls_cert is None) != (options.tls_key is None):
        raise CannotServe("--tls-cert and --tls-key belong together: give both")
    for path in (options.tls_cert, options.tls_key):
        if path is not None and not path.is_file():
            raise CannotServe(f"there is no file {path}")
    if is_loopback(options.host):
        return
    if options.tls_cert is None and not options.behind_proxy:
        raise CannotServe(
            f"--host {options.host}: others would send their tokens in the clear; give --tls-cert and --tls-key, or "
            "--behind-proxy if a proxy in front of it speaks TLS"
        )
    if options.no_auth:
        raise CannotServe(f"--host {options.host}: not without tokens; --insecure-no-auth is for loopback only")


def _hosts(options: ServerOptions) -> set[str]:
    bound = options.host.lower()
    anywhere = {"0.0.0.0", "::", ""}
    return {*options.allowed_hosts, *(() if bound in anywhere else (f"[{bound}]" if ":" in bound else bound,))}


def _scheme(options: ServerOptions) -> str:
    return "http" if options.tls_cert is None else "https"
