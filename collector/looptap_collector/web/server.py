"""Run the page on this machine until Ctrl-C."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from looptap_collector.artifacts import ArtifactsUnavailable
from looptap_collector.embedded import artifacts_of, open_backend
from looptap_collector.query import InJournal
from looptap_collector.server.binding import CannotServe, listen
from looptap_collector.web.app import create_app, plotly_script

#: The page has no login yet, so nobody but this machine may reach it.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def listen_here(host: str, port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one. Raises :class:`CannotServe`."""
    if host not in LOOPBACK:
        raise CannotServe(
            f"--host {host}: the page has no login yet, so it listens on this machine only;"
            f" use one of {', '.join(LOOPBACK)} (from elsewhere: ssh -L 8765:localhost:8765 THIS_MACHINE)"
        )
    return listen("127.0.0.1" if host == "localhost" else host, port)


def serve(
    folder: Path,
    in_journal: InJournal | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the store in ``folder`` (which may not exist yet) and return after Ctrl-C. Raises
    :class:`CannotServe`."""
    plotly_script()
    try:
        artifacts = artifacts_of(folder)
    except ArtifactsUnavailable as error:
        raise CannotServe(str(error)) from error
    with listen_here(host, port) as listener:
        app = create_app(
            lambda: open_backend(folder, create=False),
            store_name=str(folder),
            in_journal=in_journal,
            open_artifact=artifacts.open,
        )
        shown = "[::1]" if host == "::1" else host
        address = f"http://{shown}:{listener.getsockname()[1]}/"
        say(f"looptap: {folder} at {address} · Ctrl-C to stop")
        if browser:
            webbrowser.open(address)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            say("")
        finally:
            app.state.shown.store.close()
