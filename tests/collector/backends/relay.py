"""A connection to a database server that breaks at the worst moment: the server has committed, and the client never hears
of it."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Not "READ COMMITTED".
_COMMIT = re.compile(rb"COMMIT(?!TED)")


class Relay:
    """Hands bytes on between any number of clients and one server."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: So many of the next commits are not answered.
        self.commits_to_swallow = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
            threading.Thread(target=self._to_client, args=(client, server), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(1 << 16):
                if self.commits_to_swallow and _COMMIT.search(data):
                    self.commits_to_swallow -= 1
                    # Both directions end for the client at once; the server still gets what was said.
                    client.shutdown(socket.SHUT_RDWR)
                server.sendall(data)
        except OSError:
            pass
        finally:
            server.shutdown(socket.SHUT_WR)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := server.recv(1 << 16):
                client.sendall(data)
        except OSError:
            pass
        finally:
            client.close()


@contextmanager
def relay(server_port: int) -> Iterator[Relay]:
    opened = Relay(server_port)
    yield opened
    opened.close()
