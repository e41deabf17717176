"""Run the page on this machine until Ctrl-C."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Callable
from contextlib import closing

import uvicorn

from looptap_collector.opening import contents_to_read, is_collector, open_to_read
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
    store: str,
    in_journal: InJournal | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve a store and return after Ctrl-C: a folder (which may not exist yet), or a collector's address. Raises
    :class:`CannotServe`."""
    plotly_script()
    try:
        contents = contents_to_read(store)
        if is_collector(store):
            # Whoever is not let in should hear it here, not from an empty page.
            with closing(open_to_read(store)) as backend:
                backend.experiments()
    except OSError as error:
        raise CannotServe(str(error)) from error
    with listen_here(host, port) as listener:
        app = create_app(
            lambda: open_to_read(store),
            store_name=store,
            in_journal=in_journal,
            open_artifact=contents.open,
        )
        shown = "[::1]" if host == "::1" else host
        address = f"http://{shown}:{listener.getsockname()[1]}/"
        say(f"looptap: {store} at {address} · Ctrl-C to stop")
        if browser:
            webbrowser.open(address)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            say("")
        finally:
            app.state.shown.store.close()
