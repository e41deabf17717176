"""One shape for everything that goes wrong, on every route:

``{"error": {"code", "message", "field", "hint"}}``: a word for programs, one line for people, what it is about and how
to mend it (both null where there is nothing to say).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

#: Codes for refusals of the framework itself.
_CODES = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 406: "not_acceptable"}


class Refusal(Exception):
    """An answer other than success. ``more`` are further fields beside ``error``."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        hint: str | None = None,
        retry_after: int | None = None,
        more: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.hint = hint
        self.retry_after = retry_after
        self.more = more or {}
        self.headers = headers or {}

    def response(self) -> Response:
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return Response(self.body(), self.status, headers, "application/json")

    def body(self) -> bytes:
        error = {"code": self.code, "message": self.message, "field": self.field, "hint": self.hint}
        return json.dumps({"error": error, **self.more}).encode("ascii")


def busy(message: str, retry_after: int = 1) -> Refusal:
    """Too much at once: the same request will do, a little later."""
    return Refusal(503, "busy", message, hint="send it again later", retry_after=retry_after)


def speak_with_one_voice(app: FastAPI) -> None:
    """Give our shape to what the framework refuses and to what nobody foresaw."""
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    # ("query", "limit") is the parameter limit; where it stands is known from the documentation.
    field = ".".join(str(part) for part in first["loc"][1:]) or None
    return Refusal(422, "invalid", f"{field}: {first['msg']}", field=field).response()


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "refused")
    response = Refusal(error.status_code, code, str(error.detail)).response()
    response.headers.update(error.headers or {})
    return response


def _unforeseen(request: Request, error: Exception) -> Response:
    # What happened is in the server's log; a stranger learns nothing from it.
    return Refusal(500, "internal", "the collector failed; its log says why").response()
