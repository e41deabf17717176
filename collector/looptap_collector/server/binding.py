"""Where a server listens, and what that needs to be safe."""

from __future__ import annotations

import ipaddress
import socket
import sys


class CannotServe(Exception):
    """The address cannot be used; the message is one line and says how to mend it."""


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises :class:`CannotServe`."""
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if sys.platform != "win32":  # there it would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise CannotServe(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port, 0 for a free one"
        ) from error
    return listener


def address_of(listener: socket.socket, scheme: str = "http") -> str:
    """As one would type it, without a slash at the end."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
