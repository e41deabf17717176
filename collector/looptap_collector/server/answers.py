"""How answers are written: valid JSON whatever was stored, or MessagePack for those who want columns to the bit."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from looptap_collector.record import to_json

MSGPACK = "application/x-msgpack"


def json_answer(content: Any, *, status: int = 200) -> Response:
    """NaN and infinities are the strings ``NaN``, ``Infinity`` and ``-Infinity``; integers are exact."""
    return Response(to_json(content), status, media_type="application/json")


def msgpack_answer(content: Any) -> Response:
    return Response(msgspec.msgpack.encode(content), media_type=MSGPACK)


def wants_msgpack(request: Request) -> bool:
    return MSGPACK in request.headers.get("accept", "")


def example(content: Any, description: str = "OK") -> dict[int | str, dict[str, Any]]:
    """The documentation of a route's answer."""
    return {200: {"description": description, "content": {"application/json": {"example": content}}}}
