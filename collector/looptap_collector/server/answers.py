"""How answers are written: valid JSON whatever was stored, or MessagePack for those who want everything to the bit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from looptap_collector import exact
from looptap_collector.record import to_json
from looptap_collector.server.service import caller_of, in_thread, service_of

#: A longer answer is sent in pieces, as fast as they are taken.
_PIECE_BYTES = 1 << 18


def answer(request: Request, content: Any, *, status: int = 200) -> Response:
    """As the ``Accept`` header wants it. In JSON, NaN and infinities are the strings ``NaN``, ``Infinity`` and ``-Infinity``;
    integers are exact in both."""
    if wants_msgpack(request):
        return Response(exact.encode(content), status, media_type=exact.MEDIA_TYPE)
    return Response(to_json(content), status, media_type="application/json")


async def answered(request: Request, question: Callable[[], Any]) -> Response:
    """What the store says to a question. It is asked, and its answer written, in a worker thread: both may take long, and agents
    must not wait for it. Only few are at work at once, and what is not sent yet has a bound too."""
    service = service_of(request)
    async with service.questions:
        response = await in_thread(lambda: answer(request, question()))
    size = len(response.body)
    if size <= _PIECE_BYTES:
        return response
    who = caller_of(request).name
    service.unsent.take(who, size)
    return StreamingResponse(_pieces(request, memoryview(response.body), who), headers=dict(response.headers))


async def _pieces(request: Request, body: memoryview, who: str) -> AsyncIterator[memoryview]:
    try:
        for start in range(0, len(body), _PIECE_BYTES):
            yield body[start : start + _PIECE_BYTES]
    finally:
        service_of(request).unsent.give_back(who, len(body))


def wants_msgpack(request: Request) -> bool:
    return exact.MEDIA_TYPE in request.headers.get("accept", "")


def example(content: Any, description: str = "OK") -> dict[int | str, dict[str, Any]]:
    """The documentation of a route's answer."""
    return {
        200: {
            "description": description,
            "content": {
                "application/json": {"example": content},
                exact.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    }
