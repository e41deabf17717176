"""A collector over HTTP as a :class:`looptap.sinks.Sink`: the agent's side of the wire protocol, version 1.

Only a refusal in the collector's own words is final. What a proxy, a login page or a stranger says about a batch means "not now",
and the records wait.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

import msgspec
import zstandard

from looptap import settings as places
from looptap.digests import Unobtainable
from looptap.events import Artifact, Batch, File, Rejected
from looptap.exchange import Answer, Exchange, Whole
from looptap.settings import Settings
from looptap.sinks import REQUEST_SECONDS, Unavailable
from looptap.upload import Pace, PieceSize, Upload

#: A proxy may have a limit of its own for bodies, but hardly one below this: what refuses less refuses everything.
_CREDIBLE_LIMIT_BYTES = 16 * 2**10
_BATCH_HEADERS = {"Content-Type": "application/x-msgpack", "Content-Encoding": "zstd"}
_CONTENT = "application/octet-stream"


class _Outcome(msgspec.Struct, frozen=True):
    outcome: Literal["stored", "duplicate"]


class _Position(msgspec.Struct, frozen=True):
    next: Whole


class _Received(msgspec.Struct, frozen=True):
    received: Whole
    complete: bool = False


class HttpSink:
    """Raises :class:`looptap.sinks.Unavailable`, or :class:`Rejected` where trying again is pointless."""

    def __init__(self, address: str, settings: Settings | None = None, *, seconds: float = REQUEST_SECONDS) -> None:
        """``seconds``: most that one request takes altogether. Connects only when asked for something."""
        self._exchange = Exchange(address, settings, seconds=seconds)
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._upload: Upload | None = None
        self._piece = PieceSize()
        self._pace = Pace((settings or places.load()[0]).upload_mib_per_second * 2**20)

    def position(self, journal: str) -> int:
        answer = self._exchange.ask("GET", f"/v1/journals/{quote(journal, safe='')}")
        found = answer.read(_Position) if answer.status == 200 else None
        if found is None:
            raise self._exchange.unavailable(answer)
        return found.next

    def deliver(self, batch: Batch) -> None:
        body = self._compressor.compress(msgspec.msgpack.encode(batch))
        answer = self._exchange.ask("POST", "/v1/batches", body, _BATCH_HEADERS)
        if answer.status == 200 and answer.read(_Outcome) is not None:
            return
        is_final = answer.status in (400, 409, 413, 422) and answer.refusal() is not None
        if is_final or (answer.status == 413 and len(body) > _CREDIBLE_LIMIT_BYTES):
            raise Rejected(self._exchange.reason(answer))
        raise self._exchange.unavailable(answer)

    def keep_file(self, file: File) -> Artifact | None:
        """One piece of the file with each call. An upload that was cut short goes on where it was."""
        try:
            upload = self._upload_of(file)
            if not (upload.received is None and self._is_known(upload)) and not self._send_piece(upload):
                return None
            artifact = file.as_artifact(digest=upload.sha256)
        except Unobtainable as reason:
            artifact = file.as_artifact(missing=str(reason))
        self._forget_upload()
        return artifact

    def close(self) -> None:
        self._forget_upload()
        self._exchange.close()

    # --- private ------------------------------------------------------------------------------------------------------

    def _upload_of(self, file: File) -> Upload:
        if self._upload is None or self._upload.file != file:
            self._forget_upload()
            self._upload = Upload(file)
        return self._upload

    def _forget_upload(self) -> None:
        if self._upload is not None:
            self._upload.close()
            self._upload = None

    def _is_known(self, upload: Upload) -> bool:
        """Whether the collector has the whole content; if not, :attr:`Upload.received` tells where to go on."""
        where = f"/v1/artifacts/{upload.sha256}"
        head = self._exchange.ask("HEAD", where)
        # Any page answers a HEAD with 200, but hardly one as content of this type.
        if head.status == 200 and head.media_type == _CONTENT:
            return True
        if head.status not in (200, 404):
            raise self._exchange.unavailable(head)
        answer = self._exchange.ask("GET", f"{where}/upload")
        found = answer.read(_Received) if answer.status == 200 else None
        if answer.status in (404, 405) and answer.refusal() is not None:
            raise Rejected("this collector takes no files")
        if found is None or found.received > upload.file.size_bytes:
            raise self._exchange.unavailable(answer)
        upload.received = found.received
        return False

    def _send_piece(self, upload: Upload) -> bool:
        """True when the collector has it all now."""
        assert upload.received is not None
        start, total = upload.received, upload.file.size_bytes
        size = self._pace.most(self._piece.bytes)
        self._pace.spend(min(size, total - start))
        data = upload.piece(start, size)
        covered = f"{start}-{start + len(data) - 1}" if data else "*"
        headers = {"Content-Type": _CONTENT, "Content-Range": f"bytes {covered}/{total}"}
        # Whatever happens to this piece, what the collector has of it is asked before the next.
        upload.received = None
        try:
            answer = self._exchange.ask("PUT", f"/v1/artifacts/{upload.sha256}", data, headers)
        except Unavailable:
            self._piece.shrink()
            raise
        found = answer.read(_Received) if answer.status in (201, 202) else None
        if found is not None and found.complete:
            return True
        if found is not None and start < found.received <= total:
            upload.received = found.received
            self._piece.grow()
            return False
        self._refused(answer, upload)
        return False

    def _refused(self, answer: Answer, upload: Upload) -> None:
        """Returns when it is worth another try at once."""
        refusal = answer.refusal()
        if answer.status == 413 and refusal is not None:
            raise Unobtainable("too_large")
        if answer.status == 413 and self._piece.shrink():
            return
        if answer.status in (400, 422) and refusal is not None:
            upload.check_unchanged()
            raise Rejected(self._exchange.reason(answer))
        raise self._exchange.unavailable(answer)
