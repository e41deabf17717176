"""What every artifact store does. The SHA-256 of a file is its only address: no name or path that came from a run is ever
part of a path or a key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from looptap_collector.artifacts.sources import Source

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class DamagedArtifact(Exception):
    """The stored content is no longer what its digest says."""


class ArtifactsUnavailable(OSError):
    """The store cannot be used as it is. One line that says how to mend it, without credentials in it."""


class Stored(NamedTuple):
    """One artifact as the store lists it. ``modified_ns`` is when it was last put there, in ns since 1970."""

    digest: str
    size_bytes: int
    modified_ns: int


class Contents(Protocol):
    """What one reads of a store: the half that a collector gives to those who are far away."""

    def open(self, digest: str) -> BinaryIO:
        """The content, checked as a whole against its digest before the first byte is handed out. Raises KeyError or
        :class:`DamagedArtifact`."""

    def read(self, digest: str, start: int, end: int) -> Iterator[bytes]:
        """Bytes ``start`` to ``end`` (exclusive, at most the size) in blocks, as they are: a part cannot be checked. Raises
        KeyError, or :class:`DamagedArtifact` when there are fewer, before the first block if that can be seen by then."""

    def size(self, digest: str) -> int:
        """In bytes. Raises KeyError when the content is not there."""


class ArtifactStore(Contents, Protocol):
    """Safe to call from several threads and processes. Content is there whole or not at all. Text that is no SHA-256 in
    hex raises KeyError everywhere; a store that cannot be reached raises an OSError, which is worth another try."""

    def put(self, source: Source) -> str:
        """Keep the file's content and return its digest. Raises :class:`Unobtainable` when the file is not, or does not
        stay, what ``source`` says; any other error is the store's own."""

    def add(self, path: Path, digest: str) -> None:
        """Keep a file that the caller has verified and gives away: it may be gone afterwards. Content that is there
        already begins to age anew. Raises :class:`DamagedArtifact` where the file is seen to be something else."""

    def stored(self, digest: str) -> Stored:
        """One artifact as :meth:`digests` lists it. Raises KeyError when the content is not there."""

    def exists(self, digest: str) -> bool: ...

    def delete(self, digest: str) -> None:
        """Nothing happens when it is not there."""

    def digests(self) -> Iterator[Stored]:
        """Every artifact, in no order. What is put or deleted meanwhile may be among them or not."""


def is_digest(text: str) -> bool:
    return _DIGEST.match(text) is not None


def place(digest: str) -> tuple[str, str]:
    """The two folders that hold a digest, ``ab`` and ``cd``. Raises KeyError for any other text."""
    if not is_digest(digest):
        raise KeyError(f"{digest[:80]!r} is not a SHA-256 in hex")
    return digest[:2], digest[2:4]


def check_range(digest: str, end: int, size: int) -> None:
    if end > size:
        raise DamagedArtifact(f"artifact {digest} ends at byte {size}")


def gathered(blocks: Iterable[bytes], digest: str, content: BinaryIO) -> BinaryIO:
    """``content``, a file that is empty, with these blocks in it, to be read from its beginning. Raises :class:`DamagedArtifact`
    when they are not what the digest says; then, and whenever reading them fails, the file is closed."""
    try:
        checksum = hashlib.sha256()
        for block in blocks:
            checksum.update(block)
            content.write(block)
        if checksum.hexdigest() != digest:
            raise DamagedArtifact(f"artifact {digest} has other content than its digest says")
        content.seek(0)
    except BaseException:
        content.close()
        raise
    return content
