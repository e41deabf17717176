"""An application behind a real server, in this process or in one of its own, asked over a socket, so that every byte of the answer
is seen."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from programs import Programs


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


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    began = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() < began + seconds, "it takes too long"
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def server(programs: Programs, words: list[str], port: int, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """``python WORDS``, once it listens; killed at the end, if it has not ended by then."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=programs.folder,
        env=programs.environment(**more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # Tests that were started in the background ignore Ctrl-C, and so would whatever they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until(lambda: is_listening(port) or process.poll() is not None)
        yield process
    finally:
        with suppress(ProcessLookupError):  # of those that have ended before, some leave workers behind
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
