"""Real collectors for tests: in a thread of this process, or as the command that users start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
import zstandard

from looptap.events import Batch
from looptap_collector.artifacts import open_artifacts
from looptap_collector.artifacts.uploads import Uploads
from looptap_collector.server.access import Scope
from looptap_collector.server.app import create_app
from looptap_collector.server.binding import listen
from looptap_collector.server.serving import ServerOptions, config
from looptap_collector.server.tokens import Keyring, new_token, row_of
from looptap_collector.stores import open_store

MEDIA_TYPE = "application/x-msgpack"


def body_of(batch: Batch) -> bytes:
    """As an agent sends it."""
    return zstandard.ZstdCompressor(level=1).compress(msgspec.msgpack.encode(batch))


@dataclass
class Collector:
    """``address`` without a slash at the end; ``tokens`` by scope."""

    address: str
    tokens: dict[str, str]
    app: Any
    store: Any
    server: uvicorn.Server
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, scope: str | None = "admin", **more: Any) -> httpx.Client:
        """A client with a token of that scope; None for one without."""
        headers = {} if scope is None else {"authorization": f"Bearer {self.tokens[scope]}"}
        opened = httpx.Client(base_url=self.address, headers=headers, timeout=30, trust_env=False, **more)
        self.clients.append(opened)
        return opened

    def send(self, batch: Batch, scope: str = "ingest") -> httpx.Response:
        return self.client(scope).post(
            "/v1/batches",
            content=body_of(batch),
            headers={"content-type": MEDIA_TYPE, "content-encoding": "zstd"},
        )

    def token(self, name: str, scope: str, **more: Any) -> str:
        """A new token that the collector knows at once."""
        made = new_token()
        self.store.add_token(row_of(made, name, Scope(scope), **more))
        return made


@contextmanager
def collecting(folder: Path, *, port: int = 0, **more: Any) -> Iterator[Collector]:
    """A collector over the store in ``folder``, with a token of each scope, by the names ``i``, ``r`` and ``a``."""
    options = ServerOptions(store=str(folder), **more)
    store = open_store(options.store, create=True)
    tokens = {}
    for scope in (Scope.INGEST, Scope.READ, Scope.ADMIN):
        tokens[scope.value] = token = new_token()
        store.add_token(row_of(token, scope.value[0], scope))
    keyring = Keyring(store)
    keyring.refresh()
    artifacts = open_artifacts(folder / "artifacts")
    uploads = Uploads(folder / "uploads", artifacts)
    app = create_app(open_store(options.store, create=True), artifacts, uploads, keyring=keyring)
    with listen("127.0.0.1", port) as listener:
        server = uvicorn.Server(config(app, options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        collector = Collector(f"http://127.0.0.1:{listener.getsockname()[1]}", tokens, app, store, server)
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.005)
            yield collector
        finally:
            for client in collector.clients:
                client.close()
            server.should_exit = True
            thread.join()
            store.close()


@dataclass
class Process:
    """``looptap server`` in a process of its own. ``token`` is the one of the machine's user."""

    address: str
    token: str
    process: subprocess.Popen[str]
    printed: list[str]


@contextmanager
def server_process(folder: Path, *words: str, store: str | None = None, **more: str) -> Iterator[Process]:
    """``folder`` holds the store (unless another is named), the user's configuration and the journals."""
    environment = {
        **os.environ,
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONUNBUFFERED": "1",
        **more,
    }
    store = store or str(folder / "store")
    command = [sys.executable, "-m", "looptap.cli", "server", "--store", store, "--port", "0", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    ) as process:
        try:
            assert process.stdout is not None
            printed = []
            for line in process.stdout:
                printed.append(line)
                if found := re.search(r"https?://\S+:\d+", line):
                    break
            else:
                raise AssertionError(f"the server did not start: {printed} {process.stderr and process.stderr.read()}")
            file = folder / "config" / "looptap" / "token"
            token = file.read_text().strip() if file.exists() else ""
            yield Process(found[0], token, process, printed)
        finally:
            if process.poll() is None:
                process.terminate()
            with suppress(ValueError):  # the test has read it to its end
                process.communicate(timeout=30)
