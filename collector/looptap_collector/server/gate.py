"""What every request passes before a route sees it, on every method: may this page or program talk to us at all, who is
it, and may it do that?

The ``Host`` must be one of ours, a browser's request must come from our own pages, and nothing is read from a cookie.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from looptap_collector.server.access import AccessTable, Caller, Scope
from looptap_collector.server.errors import Refusal
from looptap_collector.server.hosts import HEADERS, name_of, with_headers
from looptap_collector.server.measures import Measures
from looptap_collector.server.tokens import Keyring, is_token

_HEADERS = {
    **HEADERS,
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cache-control": "no-store",
}
#: Wrong tokens that one address may try in a row, and how many more each second. Right ones are never held up.
_TRIES = 20
_TRIES_PER_SECOND = 5.0
_MOST_ADDRESSES = 10_000


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(
        self, app: ASGIApp, *, access: AccessTable, keyring: Keyring | None, hosts: Iterable[str], measures: Measures
    ) -> None:
        """``keyring`` None lets everybody do everything (``--insecure-no-auth``). ``hosts``: names that a request may
        ask for, without port, in lower case."""
        self._app = app
        self._access = access
        self._keyring = keyring
        self._hosts = frozenset(hosts)
        self._measures = measures
        self._guessers = _Guessers()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets here; 1008 is "policy violation"
            await send({"type": "websocket.close", "code": 1008})
            return

        try:
            scope.setdefault("state", {})["caller"] = await self._admit(scope)
        except Refusal as refusal:
            self._measures.refused.labels(refusal.code).inc()
            # Whoever was refused has no claim to a connection.
            await refusal.response()(scope, receive, with_headers(send, {**_HEADERS, "connection": "close"}))
            return
        await self._app(scope, receive, with_headers(send, _HEADERS))

    async def _admit(self, scope: AsgiScope) -> Caller:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in headers and name in _ONLY_ONCE:
                raise Refusal(400, "malformed", f"the header {name.decode('latin-1')} came twice")
            headers[name] = value
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            # No name that is stored has one, and not every engine can be asked for it.
            raise Refusal(400, "malformed", "an address has no NUL characters")
        self._check_origin(headers)
        needed = self._access.needed(scope)
        if needed is not None and Scope.PUBLIC in needed:
            return Caller("", Scope.PUBLIC, "")
        caller = await self._identify(scope, headers)
        if needed is None:
            raise Refusal(404, "not_found", "there is nothing at this address")
        if not caller.may(needed):
            wanted = " or ".join(sorted(each.value for each in needed))
            raise Refusal(
                403,
                "forbidden",
                f"this token has the scope {caller.scope.value}; {wanted} is needed",
                hint=f"{_ANOTHER}{min(each.value for each in needed)}",
            )
        return caller

    def _check_origin(self, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if name_of(host) not in self._hosts:
            raise Refusal(
                421,
                "wrong_host",
                "this collector does not answer to that host name",
                hint="start it with --allow-host NAME if it should",
            )
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() not in (f"http://{host}", f"https://{host}"):
            raise Refusal(403, "cross_site", "a page of another site may not talk to this collector")
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            raise Refusal(403, "cross_site", "a page of another site may not talk to this collector")

    async def _identify(self, scope: AsgiScope, headers: Mapping[bytes, bytes]) -> Caller:
        if self._keyring is None:
            return Caller("anyone", Scope.ADMIN, "")
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Refusal(401, "unauthenticated", "this collector wants a token", hint=_HOW)
        found = self._keyring.caller(token.strip())
        if isinstance(found, Caller):
            return found
        address = (scope.get("client") or ("", 0))[0]
        if not self._guessers.may_try(address):
            raise Refusal(
                429, "too_many_wrong_tokens", "too many wrong tokens from this address", retry_after=10, hint=_HOW
            )
        if found == "unknown" and is_token(token.strip()):
            # It may have been made a moment ago.
            await asyncio.to_thread(self._keyring.refresh)
            found = self._keyring.caller(token.strip())
            if isinstance(found, Caller):
                return found
        raise Refusal(401, "unauthenticated", f"this token is {found}", hint=f"{_ANOTHER}SCOPE")


_ONLY_ONCE = frozenset({b"host", b"authorization", b"origin", b"content-type", b"content-encoding", b"content-range"})
_HOW = "send the header Authorization: Bearer TOKEN; agents read LOOPTAP_TOKEN or the file of the local token"
_ANOTHER = "make one on the collector's machine: looptap token create NAME --scope "


class _Guessers:
    """Addresses that came with wrong tokens, each with what is left of its tries."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}

    def may_try(self, address: str) -> bool:
        now = time.monotonic()
        left, at = self._left.pop(address, (float(_TRIES), now))
        left = min(float(_TRIES), left + (now - at) * _TRIES_PER_SECOND)
        if len(self._left) >= _MOST_ADDRESSES:
            self._left.pop(next(iter(self._left)))
        self._left[address] = (max(0.0, left - 1.0), now)
        return left >= 1.0
