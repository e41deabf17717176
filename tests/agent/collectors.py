"""Collectors for the agent's tests to send to.

:func:`serving` starts one in this process. It is the only place to change when there is another server to test against.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from looptap.events import Batch, Rejected
from looptap_collector.artifacts import LocalArtifacts, Source
from looptap_collector.backend import Backend, Delivery
from looptap_collector.embedded import open_backend
from looptap_collector.pipeline import Pipeline

TOKEN = "lt_" + "c4nary" * 7 + "A123456"


@dataclass
class Collector:
    """``tokens``: who is let in; change it to rotate."""

    folder: Path
    port: int
    backend: Backend
    tokens: set[str]
    artifacts: LocalArtifacts
    incoming: dict[str, bytes] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def delivery(self, run: str) -> Delivery:
        (found,) = self.backend.delivery(run)
        return found

    def steps(self, run: str, key: str = "loss") -> list[int]:
        steps: list[int] = self.backend.history(run, key, {}).steps.tolist()
        return steps


@contextlib.contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[Collector]:
    """A collector over the store in ``folder``, which may have been there before."""
    backend = open_backend(folder, create=True)
    with ThreadingHTTPServer(("127.0.0.1", port), _Handler) as server:
        server.daemon_threads = True
        collector = Collector(folder, server.server_port, backend, {TOKEN}, LocalArtifacts(folder / "artifacts"))
        server.collector = collector  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
            backend.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def collector(self) -> Collector:
        found: Collector = self.server.collector  # type: ignore[attr-defined]
        return found

    def do_POST(self) -> None:
        body = self._body()
        if not self._is_let_in():
            return
        try:
            batch = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(body), type=Batch)
            outcome = Pipeline(self.collector.backend).accept(batch)
        except (msgspec.MsgspecError, zstandard.ZstdError) as error:
            self._refuse(400, "malformed", str(error))
        except Rejected as error:
            self._refuse(422, "rejected", str(error))
        except OSError as error:
            self._refuse(503, "unavailable", str(error))
        else:
            self._say(200, {"outcome": outcome.value})

    def do_GET(self) -> None:
        if not self._is_let_in():
            return
        _, _, kind, name, *_ = self.path.split("/")
        if kind == "journals":
            self._say(200, {"next": self.collector.backend.position(name)})
        else:
            self._say(200, {"received": len(self.collector.incoming.get(name, b""))})

    def do_HEAD(self) -> None:
        if not self._is_let_in():
            return
        is_known = self.collector.artifacts.exists(self.path.rpartition("/")[2])
        self.send_response(200 if is_known else 404)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_PUT(self) -> None:
        body = self._body()
        if not self._is_let_in():
            return
        digest = self.path.rpartition("/")[2]
        covered, _, total = self.headers["Content-Range"].removeprefix("bytes ").partition("/")
        start = 0 if covered == "*" else int(covered.partition("-")[0])
        incoming = self.collector.incoming.setdefault(digest, b"")
        if start != len(incoming):
            self._refuse(409, "conflict", "not the next piece")
            return
        incoming = self.collector.incoming[digest] = incoming + body
        if len(incoming) < int(total):
            self._say(202, {"received": len(incoming), "complete": False})
            return
        del self.collector.incoming[digest]
        if hashlib.sha256(incoming).hexdigest() != digest:
            self._refuse(422, "digest_mismatch", "the content has another digest")
            return
        path = self.collector.folder / "incoming"
        path.write_bytes(incoming)
        self.collector.artifacts.put(Source(str(path), len(incoming), path.stat().st_mtime_ns))
        self._say(201, {"received": len(incoming), "complete": True})

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    # --- private ------------------------------------------------------------------------------------------------------

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _is_let_in(self) -> bool:
        is_known = self.headers.get("Authorization", "").removeprefix("Bearer ") in self.collector.tokens
        if not is_known:
            self._refuse(401, "unauthenticated", "a token is needed")
        return is_known

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._say(status, {"error": {"code": code, "message": message, "field": None, "hint": None}})

    def _say(self, status: int, content: Any) -> None:
        body = msgspec.json.encode(content)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
