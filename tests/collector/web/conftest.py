"""The page as a user has it: a real server over a real store, seen by a real browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from looptap_collector.embedded import open_backend
from looptap_collector.web.app import create_app
from looptap_collector.web.server import listen


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def address(store: Path) -> Iterator[str]:
    """Where the page of ``store`` is served, without a slash at the end."""
    app = create_app(lambda: open_backend(store, create=False), store_name=str(store))
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
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
