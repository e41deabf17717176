"""The page as a user has it: a real server over a real store, seen by a real browser."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from looptap_collector.embedded import open_backend
from looptap_collector.web.app import create_app
from looptap_collector.web.server import listen_here


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """``app`` on a real server; gives its address, without a slash at the end."""
    with listen_here("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
            app.state.shown.store.close()


@pytest.fixture
def address(store: Path) -> Iterator[str]:
    """Where the page of ``store`` is served."""
    with served(create_app(lambda: open_backend(store, create=False), store_name=str(store))) as at:
        yield at


@pytest.fixture
def client(store: Path) -> Iterator[httpx.Client]:
    """A client of a page whose store does not exist yet, whose journals hold two records each, and which has one file."""

    def open_artifact(digest: str) -> io.BytesIO:
        if digest != "ab" * 32:
            raise KeyError(digest)
        return io.BytesIO(b"<html><script>alert(1)</script></html>")

    app = create_app(
        lambda: open_backend(store, create=False),
        store_name="here",
        in_journal=lambda journal, position: 2,
        open_artifact=open_artifact,
    )
    with served(app) as at, httpx.Client(base_url=at) as opened:
        yield opened
