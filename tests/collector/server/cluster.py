"""Several collectors over one database, behind a real HAProxy with the configuration that is in deploy/."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import trustme

from collector.backends.servers import found, free_port
from collector.server.collectors import Process, server_process
from looptap_collector.server.access import Scope
from looptap_collector.server.tokens import new_token, row_of
from looptap_collector.stores import open_store

CONFIG = Path(__file__).parents[3] / "deploy" / "haproxy.cfg"
_SERVERS = ("one 10.0.0.1:8766", "two 10.0.0.2:8766", "three 10.0.0.3:8766")


@dataclass
class Cluster:
    """``address`` is the proxy's, and ``authority`` the file with the certificate to trust. ``collectors`` by number, those that
    run now."""

    store: str
    folder: Path
    address: str
    authority: Path
    ports: list[int]
    collectors: dict[int, Process] = field(default_factory=dict)
    _running: dict[int, ExitStack] = field(default_factory=dict)

    def start(self, number: int) -> None:
        """Each has a folder of its own, as on a machine of its own; the files' store is common."""
        folder = self.folder / f"collector-{number}"
        folder.mkdir(exist_ok=True)
        stack = self._running[number] = ExitStack()
        words = ("--port", str(self.ports[number]), "--artifacts", str(self.folder / "artifacts"), "--behind-proxy")
        self.collectors[number] = stack.enter_context(server_process(folder, *words, store=self.store))

    def end(self, number: int, *, kill: bool = False) -> int:
        """By SIGTERM, or as a power cut does; returns the exit status."""
        process = self.collectors.pop(number).process
        if kill:
            process.kill()
        self._running.pop(number).close()
        return process.returncode

    def close(self) -> None:
        for number in list(self.collectors):
            self.end(number)

    def token(self, name: str, scope: Scope = Scope.INGEST) -> str:
        made = new_token()
        store = open_store(self.store, create=False)
        store.add_token(row_of(made, name, scope))
        store.close()
        time.sleep(1.2)  # collectors look once a second
        return made

    def client(self, token: str) -> httpx.Client:
        """Through the proxy."""
        headers = {"authorization": f"Bearer {token}"}
        context = ssl.create_default_context(cafile=str(self.authority))
        return httpx.Client(base_url=self.address, headers=headers, verify=context, trust_env=False, timeout=30)


@contextmanager
def cluster(store: str, folder: Path, size: int = 3) -> Iterator[Cluster]:
    """``size`` collectors that are ready, and the proxy that knows it."""
    program = found("haproxy", "usr/sbin")
    authority = folder / "authority.pem"
    with ExitStack() as stack:
        port, ports = free_port(), [free_port() for _ in range(size)]
        running = Cluster(store, folder, f"https://127.0.0.1:{port}", authority, ports)
        stack.callback(running.close)
        for number in range(size):
            running.start(number)
        proxy = subprocess.Popen([program, "-db", "-f", _config(folder, authority, port, ports)], cwd=folder)
        stack.callback(proxy.wait)
        stack.callback(proxy.terminate)
        with running.client("nobody") as client:
            deadline = time.monotonic() + 20
            while not _is_ready(client):
                assert proxy.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield running


def _config(folder: Path, authority: Path, port: int, ports: list[int]) -> Path:
    """The file in deploy/, with the addresses and the certificate of this test."""
    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(authority)
    issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "collector.pem")
    text = CONFIG.read_text()
    places = dict(zip(_SERVERS, ports, strict=True))
    replaced = {
        "bind :443": f"bind 127.0.0.1:{port}",
        "/etc/haproxy/collector.pem": str(folder / "collector.pem"),
        **{server: f"{server.split()[0]} 127.0.0.1:{at}" for server, at in places.items()},
    }
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "haproxy.cfg"
    path.write_text(text)
    return path


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
