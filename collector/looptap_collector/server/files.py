"""The content of files: in pieces on the way in, in ranges on the way out, always by digest.

What a run called a file is never part of an address here, and nothing that a run stored is ever opened as a page: every
download is an attachment of no type.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from looptap_collector.artifacts import Stored
from looptap_collector.artifacts.uploads import Busy, DigestMismatch, TooLarge, WrongStart
from looptap_collector.server.access import Scope, needs
from looptap_collector.server.answers import answer, example
from looptap_collector.server.errors import Refusal, busy
from looptap_collector.server.service import Service, caller_of, in_thread, service_of

_Answer = TypeVar("_Answer")
files = APIRouter(tags=["artifacts"])
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 in hex.")]
_BLOCK = 1 << 20
#: `looptap store gc` leaves what is younger than a day.
_NEW_SECONDS = 6 * 3_600
_PIECE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})\Z")
_NOTHING_MORE = re.compile(r"bytes \*/(\d{1,19})\Z")
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})\Z")
_BINARY = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@files.head("/v1/artifacts/{digest}", response_class=Response)
@needs(Scope.INGEST, Scope.READ)
async def known(request: Request, digest: Digest) -> Response:
    """Whether the content is there (200) or not (404): nobody sends what is known."""
    found = await _asked(_known, service_of(request), digest)
    if found is None:
        raise Refusal(404, "not_found", "this content is not here")
    return Response(headers={**_HEADERS, "content-length": str(found.size_bytes), "etag": f'"{digest}"'})


@files.get("/v1/artifacts/{digest}", response_class=Response, responses={200: _BINARY, 206: _BINARY})
@needs(Scope.READ)
async def content(request: Request, digest: Digest) -> Response:
    """The content, or the `Range` of it that is asked for; as a download, whatever it is."""
    store = service_of(request).artifacts
    try:
        size = await _asked(store.size, digest)
        asked = request.headers.get("range")
        start, end = (0, size) if asked is None else _bounds(asked, size)
        blocks = await _asked(store.read, digest, start, end)
    except KeyError as error:
        raise Refusal(404, "not_found", "this content is not here") from error
    headers = {**_HEADERS, "content-length": str(end - start), "etag": f'"{digest}"'}
    if asked is not None:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    return StreamingResponse(blocks, 200 if asked is None else 206, headers, "application/octet-stream")


@files.get("/v1/artifacts/{digest}/upload", responses=example({"received": 4_194_304}))
@needs(Scope.INGEST)
async def standing(request: Request, digest: Digest) -> Response:
    """Where an upload that was cut goes on at this collector."""
    service = service_of(request)
    return answer(request, {"received": await _asked(service.uploads.received, digest, _owner(request, service))})


@files.put(
    "/v1/artifacts/{digest}",
    responses={
        201: {
            "description": "The content is there, whole and verified.",
            "content": {"application/json": {"example": {"received": 1024, "complete": True}}},
        },
        202: {
            "description": "More is to come.",
            "content": {"application/json": {"example": {"received": 512, "complete": False}}},
        },
    },
    openapi_extra={
        "requestBody": {"required": True, "description": "The file, or the part that `Content-Range` names.", **_BINARY}
    },
)
@needs(Scope.INGEST)
async def upload(request: Request, digest: Digest) -> Response:
    """Take a file, or one piece of it (`Content-Range: bytes a-b/total`); pieces come in order. 409 tells where to go on."""
    service = service_of(request)
    start, total = _piece(request)
    if await _asked(_known, service, digest):
        return answer(request, {"received": total, "complete": True}, status=201)
    who = caller_of(request).name
    service.uploading.take(who)
    try:
        return await _take(request, service, digest, start, total)
    finally:
        service.uploading.give_back(who)


async def _take(request: Request, service: Service, digest: str, start: int, total: int) -> Response:
    owner = _owner(request, service)
    received, complete = start, False
    try:
        async for block in _blocks(request):
            progress = await _asked(service.uploads.append, digest, owner, received, total, block)
            service.measures.artifact_bytes.inc(sum(map(len, block)))
            received, complete = progress.received, progress.complete
    except ClientDisconnect as error:
        raise Refusal(400, "malformed", "the body was cut short") from error
    except WrongStart as error:
        raise Refusal(409, "conflict", str(error), field="Content-Range", more={"received": error.received}) from error
    except DigestMismatch as error:
        raise Refusal(
            422, "digest_mismatch", str(error), field="digest", hint="send the file from its beginning"
        ) from error
    except TooLarge as error:
        raise Refusal(413, "too_large", str(error)) from error
    except Busy as error:
        raise busy(str(error), retry_after=30) from error
    if complete:
        service.measures.artifacts.inc()
    return answer(request, {"received": received, "complete": complete}, status=201 if complete else 202)


def _known(service: Service, digest: str) -> Stored | None:
    """The content, where it will stay: what is old and of no run may be collected before the batch that names it arrives."""
    try:
        found = service.artifacts.stored(digest)
    except KeyError:
        return None
    is_new = time.time_ns() - found.modified_ns < _NEW_SECONDS * 10**9
    return found if is_new or service.backend.edges(digests=[digest], limit=1) else None


async def _blocks(request: Request) -> AsyncIterator[list[bytes]]:
    """The body in pieces of about a megabyte; once with nothing, when there is no body."""
    gathered: list[bytes] = []
    size, is_first = 0, True
    async for piece in request.stream():
        gathered.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield gathered
            gathered, size, is_first = [], 0, False
    if size or is_first:
        yield gathered


def _piece(request: Request) -> tuple[int, int]:
    """Where the body begins in the file, and how long the file is."""
    length = request.headers.get("content-length")
    if length is None:
        raise Refusal(411, "length_required", "an upload tells its Content-Length", field="Content-Length")
    told = request.headers.get("content-range")
    if told is None:
        return 0, int(length)
    if (rest := _NOTHING_MORE.match(told)) and int(length) == 0:
        return int(rest[1]), int(rest[1])
    found = _PIECE.match(told)
    if found is None:
        raise Refusal(
            400,
            "malformed",
            "this is no Content-Range",
            field="Content-Range",
            hint="Content-Range: bytes 0-4194303/9000000",
        )
    start, last, total = (int(number) for number in found.groups())
    if not start <= last < total or last - start + 1 != int(length):
        raise Refusal(400, "malformed", "Content-Range and Content-Length do not agree", field="Content-Range")
    return start, total


def _bounds(asked: str, size: int) -> tuple[int, int]:
    """The half-open range that a ``Range`` header asks for."""
    found = _RANGE.match(asked)
    first, last = found.groups() if found else ("", "")
    if first:
        start, end = int(first), min(size, int(last) + 1) if last else size
    else:
        start, end = max(0, size - int(last or 0)), size
    if not start < end:
        raise Refusal(
            416,
            "range",
            f"there is no such range in {size} bytes",
            field="Range",
            headers={"content-range": f"bytes */{size}"},
        )
    return start, end


async def _asked(question: Callable[..., _Answer], *arguments: object) -> _Answer:
    try:
        return await in_thread(question, *arguments)
    except OSError as error:
        raise Refusal(503, "unavailable", "the store of files is not available now", retry_after=5) from error


def _owner(request: Request, service: Service) -> str:
    return caller_of(request).name if service.has_login else ""


_HEADERS = {
    "content-disposition": "attachment",
    "content-security-policy": "sandbox",
    "content-type": "application/octet-stream",
    "accept-ranges": "bytes",
}
