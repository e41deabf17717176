"""What stands before every answer of the page: who may ask, how, and what a browser may do with it.

The ``Host`` must be one of ours on every method, only reading is possible, and the answer forbids scripts from anywhere
else.
"""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from looptap_collector.server.hosts import HEADERS, LOOPBACK_HOSTS, name_of, with_headers

#: Plotly puts a style element into the page; without 'unsafe-inline' its charts lose their cursors and hover labels.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {**HEADERS, "content-security-policy": CONTENT_SECURITY_POLICY}


class Shield:
    """ASGI middleware: 421 for a foreign host, 405 for anything but GET and HEAD, our headers on what
    remains."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets here; 1008 is "policy violation"
            await send({"type": "websocket.close", "code": 1008})
            return

        answer = self._refusal(scope)
        await (answer or self.app)(scope, receive, with_headers(send, _HEADERS))

    @staticmethod
    def _refusal(scope: Scope) -> PlainTextResponse | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or name_of(hosts[0].decode("latin-1")) not in LOOPBACK_HOSTS:
            return PlainTextResponse("This page answers to localhost only.\n", 421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("This page can only be read.\n", 405, {"allow": "GET, HEAD"})
        return None
