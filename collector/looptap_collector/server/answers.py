"""How answers are written: valid JSON whatever was stored, or MessagePack for those who want everything to the bit."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from looptap_collector import exact
from looptap_collector.record import to_json


def answer(request: Request, content: Any, *, status: int = 200) -> Response:
    """As the ``Accept`` header wants it. In JSON, NaN and infinities are the strings ``NaN``, ``Infinity`` and ``-Infinity``;
    integers are exact in both."""
    if wants_msgpack(request):
        return Response(exact.encode(content), status, media_type=exact.MEDIA_TYPE)
    return Response(to_json(content), status, media_type="application/json")


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
