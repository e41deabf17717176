"""Where agents deliver: batches, and how far a journal has come."""

from __future__ import annotations

import time

from fastapi import APIRouter, Path, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from looptap_collector.exact import MEDIA_TYPE
from looptap_collector.server.access import Caller, Scope, needs
from looptap_collector.server.answers import answer
from looptap_collector.server.errors import Refusal
from looptap_collector.server.intake import BODY_BYTES
from looptap_collector.server.service import Service, caller_of, in_thread, service_of

receiving = APIRouter(tags=["agents"])
#: A request without a length reserves room for so much, and may not send more.
_UNKNOWN_BYTES = 1 << 20
_ANSWERS = {outcome: b'{"outcome":"%s"}' % outcome.encode() for outcome in ("stored", "duplicate")}


@receiving.post(
    "/v1/batches",
    responses={
        200: {
            "description": "Committed now (`stored`) or before (`duplicate`).",
            "content": {"application/json": {"example": {"outcome": "stored"}}},
        }
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "One `looptap.events.Batch` as MessagePack; `Content-Encoding` zstd, gzip or none.",
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
@needs(Scope.INGEST)
async def batches(request: Request) -> Response:
    """Store one batch. Answered when it is committed, together with its entry in the ledger; the same batch again, at
    this collector or at another one of the same store, is a `duplicate`."""
    began = time.perf_counter()
    service = service_of(request)
    if request.headers.get("content-type", "").partition(";")[0].strip() != MEDIA_TYPE:
        raise Refusal(
            415, "unsupported_media_type", f"a batch comes as {MEDIA_TYPE}", hint=f"Content-Type: {MEDIA_TYPE}"
        )
    encoding = request.headers.get("content-encoding", "").strip().lower()
    reserved = _declared_bytes(request)
    who = caller_of(request)
    service.intake.reserve(who.name, reserved)
    try:
        body = await _body(request, reserved)
        service.measures.received_bytes.inc(len(body))
        outcome = await service.intake.store(body, encoding, owner_of(who, service))
    finally:
        service.intake.release(who.name, reserved)
    service.measures.acknowledge.observe(time.perf_counter() - began)
    return Response(_ANSWERS[outcome.value], media_type="application/json")


@receiving.get(
    "/v1/journals/{journal:path}",
    responses={200: {"content": {"application/json": {"example": {"next": 4711}}}}},
)
@needs(Scope.INGEST, Scope.READ)
async def journal(request: Request, journal: str = Path(max_length=255)) -> Response:
    """Where a journal goes on: one past the last number stored of it, 0 for one never seen."""
    service = service_of(request)
    return answer(request, {"next": await in_thread(service.backend.position, journal)})


def owner_of(caller: Caller, service: Service) -> str | None:
    """Whose runs these are. None (may append to all) only where everybody may do everything."""
    return caller.name if service.has_login else None


def _declared_bytes(request: Request) -> int:
    declared = request.headers.get("content-length")
    size = _UNKNOWN_BYTES if declared is None else int(declared)
    if size > BODY_BYTES:
        raise Refusal(413, "too_large", f"the body is longer than {BODY_BYTES} bytes", hint="send smaller batches")
    return size


async def _body(request: Request, limit_bytes: int) -> bytes:
    pieces, size = [], 0
    try:
        async for piece in request.stream():
            pieces.append(piece)
            size += len(piece)
            if size > limit_bytes:
                raise Refusal(
                    413, "too_large", f"the body is longer than {limit_bytes} bytes", hint="tell its Content-Length"
                )
    except ClientDisconnect as error:
        raise Refusal(400, "malformed", "the body was cut short") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
