"""What every web server of ours checks and tells, the collector and the page alike: a server on loopback can be reached by any
web site that a browser on this machine has open (DNS rebinding, forms, images)."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: What keeps an answer what it is, whatever a browser would like to do with it.
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def name_of(host: str) -> str:
    """The host without its port; what is not ``name`` or ``name:digits`` comes back whole and matches nothing."""
    name, colon, port = host.rpartition(":")
    return name.lower() if colon and port.isdigit() else host.lower()


def with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """Sends what it is given with these headers, where the answer has no others of that name."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            told = MutableHeaders(scope=message)
            for name, value in headers.items():
                told.setdefault(name, value)
        await send(message)

    return send_with_headers
