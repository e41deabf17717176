"""Run the page on this machine until Ctrl-C."""

from __future__ import annotations

import socket
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from looptap_collector.artifacts import ArtifactsUnavailable
from looptap_collector.embedded import artifacts_of, open_backend
from looptap_collector.query import InJournal
from looptap_collector.web.app import create_app, plotly_script

#: The page has no login yet, so nobody but this machine may reach it.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class CannotServe(Exception):
    """The address cannot be used; the message is one line and says how to mend it."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes a free one. Raises :class:`CannotServe`."""
    if host not in LOOPBACK:
        raise CannotServe(
            f"--host {host}: the page has no login yet, so it listens on this machine only;"
            f" use one of {', '.join(LOOPBACK)} (from elsewhere: ssh -L 8765:localhost:8765 THIS_MACHINE)"
        )
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1" if host == "localhost" else host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise CannotServe(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port, 0 for a free one"
        ) from error
    return listener


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
    with listen(host, port) as listener:
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
