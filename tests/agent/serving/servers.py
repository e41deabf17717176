"""An application behind a real server, asked over a socket, so that every byte of the answer is seen."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


@contextmanager
def uvicorn_server(app: Any) -> Iterator[int]:
    """Gives its port. What it answers has no date in it."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", date_header=False, lifespan="off", timeout_keep_alive=60)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listener.close()


def ask(port: int, method: str, path: str, body: bytes = b"", headers: str = "", *, most: int = 10**9) -> bytes:
    """The whole answer, or its first bytes: then the client hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        head = f"{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        client.sendall(head.encode() + body)
        answer = b""
        while len(answer) < most and (piece := client.recv(65536)):
            answer += piece
        return answer
