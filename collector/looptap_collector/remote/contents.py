"""The content of a collector's artifacts, piece by piece, so that each request ends."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from looptap_collector.artifacts.store import DamagedArtifact, gathered, is_digest
from looptap_collector.remote.asking import NotThere, Questions
from looptap_collector.remote.backend import Edges

if TYPE_CHECKING:
    from looptap.exchange import Exchange

_PIECE_BYTES = 8 << 20
_IN_MEMORY_BYTES = 32 << 20


class RemoteContents:
    """See :class:`~looptap_collector.artifacts.store.Contents`. Raises :class:`~looptap_collector.backend.Unavailable`, too."""

    def __init__(self, exchange: Exchange) -> None:
        self._questions = Questions(exchange)

    def size(self, digest: str) -> int:
        """As the run told that wrote it. Raises KeyError when no run has it."""
        found = self._questions.ask(Edges, "edges", artifact=digest, limit=1).edges if is_digest(digest) else []
        if not found:
            raise KeyError(f"no artifact {digest}")
        return found[0].size_bytes

    def read(self, digest: str, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            behind = min(end, start + _PIECE_BYTES)
            piece = self._piece(digest, start, behind)
            yield piece
            start = behind

    def open(self, digest: str) -> BinaryIO:
        """The content, checked as a whole before the first byte is handed out; it lies in a temporary file meanwhile."""
        pieces = self.read(digest, 0, self.size(digest))
        content = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
        return gathered(pieces, digest, content)  # type: ignore[arg-type]

    def close(self) -> None:
        self._questions.close()

    def _piece(self, digest: str, start: int, behind: int) -> bytes:
        headers = {"Accept": "application/octet-stream", "Range": f"bytes={start}-{behind - 1}"}
        answer = self._questions.get(f"/v1/artifacts/{digest}", headers)
        if answer.status == 206 and len(answer.body) == behind - start:
            return answer.body
        if answer.status in (206, 416):
            raise DamagedArtifact(f"artifact {digest} is shorter than it should be")
        try:
            self._questions.refused(answer)
        except NotThere as error:
            raise KeyError(str(error)) from None
        raise self._questions.unavailable(answer)
