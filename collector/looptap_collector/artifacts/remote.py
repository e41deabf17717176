"""Artifacts in the object storage of a cloud: ``prefix/ab/cd/abcd…``.

An object appears whole or not at all, so two collectors that put the same digest at once do each other no harm: both put
the same bytes. What is read back is checked against its digest in a temporary file, before anybody sees it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from looptap_collector.artifacts.clouds import Cloud, connect, explained
from looptap_collector.artifacts.sources import Source, copy_unchanged
from looptap_collector.artifacts.store import (
    ArtifactsUnavailable,
    DamagedArtifact,
    Stored,
    check_range,
    gathered,
    place,
)

_READ = 8 * 2**20
#: Younger content is not put again. Far below the age at which retention may delete what nobody refers to.
_FRESH_NS = 6 * 3600 * 10**9


class RemoteArtifacts:
    """An :class:`ArtifactStore` in a bucket that has to exist. Raises :class:`ArtifactsUnavailable`."""

    def __init__(self, cloud: Cloud, bucket: str, prefix: str) -> None:
        self._cloud = cloud
        self._root = f"{bucket}/{prefix}" if prefix else bucket
        self.address = f"{cloud.scheme}://{self._root}"
        self._files = connect(cloud, self.address)
        with self._explaining():
            self._files.info(bucket)

    def put(self, source: Source) -> str:
        with _temporary() as path:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                digest = copy_unchanged(source, descriptor)
            finally:
                os.close(descriptor)
            self.add(path, digest)
        return digest

    def add(self, path: Path, digest: str) -> None:
        key = self._key(digest)
        size = path.stat(follow_symlinks=False).st_size
        if self._is_fresh(digest, size):
            return
        with self._explaining():
            self._files.put_file(str(path), key, **self._cloud.upload)
        stored = self.size(digest)
        if stored != size:
            raise DamagedArtifact(f"{self.address}: artifact {digest} has {stored} bytes where {size} were put")

    def open(self, digest: str) -> BinaryIO:
        blocks = self.read(digest, 0, self.size(digest))
        return gathered(blocks, digest, tempfile.TemporaryFile())

    def read(self, digest: str, start: int, end: int) -> Iterator[bytes]:
        check_range(digest, end, self.size(digest))
        return self._blocks(digest, start, end)

    def size(self, digest: str) -> int:
        return self.stored(digest).size_bytes

    def stored(self, digest: str) -> Stored:
        key = self._key(digest)
        with self._explaining(digest):
            found = self._files.info(key)
        if found["type"] != "file":
            raise KeyError(f"no artifact {digest}")
        return Stored(digest, int(found["size"]), _modified_ns(found))

    def exists(self, digest: str) -> bool:
        place(digest)
        try:
            self.stored(digest)
        except KeyError:
            return False
        return True

    def delete(self, digest: str) -> None:
        key = self._key(digest)
        with contextlib.suppress(KeyError), self._explaining(digest):
            self._files.rm_file(key)

    def digests(self) -> Iterator[Stored]:
        # Piece by piece: one listing of everything would have to fit into memory.
        for beginning in "0123456789abcdef":
            with self._explaining():
                found = self._files.find(self._root, prefix=beginning, detail=True)
            for name, facts in found.items():
                digest = name.rpartition("/")[2]
                with contextlib.suppress(KeyError):
                    if name == self._key(digest):
                        yield Stored(digest, int(facts["size"]), _modified_ns(facts))

    def _blocks(self, digest: str, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            length = min(_READ, end - start)
            with self._explaining(digest):
                block: bytes = self._files.cat_file(self._key(digest), start=start, end=start + length)
            if len(block) > length:  # s3rver 3.7 takes the range 0-0 for none, and sends everything
                block = block[start : start + length]
            if len(block) < length:
                raise DamagedArtifact(f"artifact {digest} ends at byte {start + len(block)}")
            start += length
            yield block

    def _is_fresh(self, digest: str, size: int) -> bool:
        try:
            found = self.stored(digest)
        except KeyError:
            return False
        return found.size_bytes == size and time.time_ns() - found.modified_ns < _FRESH_NS

    def _key(self, digest: str) -> str:
        return "/".join((self._root, *place(digest), digest))

    @contextlib.contextmanager
    def _explaining(self, digest: str | None = None) -> Iterator[None]:
        """Errors of the driver in our words. With a digest, what is not found is that artifact, else the bucket."""
        try:
            yield
        except (ArtifactsUnavailable, GeneratorExit, KeyboardInterrupt):
            raise
        except Exception as error:  # noqa: BLE001 - raised in our own words
            if digest is not None and isinstance(error, FileNotFoundError):
                raise KeyError(f"no artifact {digest}") from None
            raise explained(error, self._cloud, self.address) from None


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    """A path for a file of our own, in a folder that nobody else may enter."""
    with tempfile.TemporaryDirectory(prefix="looptap-") as folder:
        yield Path(folder) / "artifact"


def _modified_ns(facts: Mapping[str, Any]) -> int:
    # Each driver has its own name for it: s3fs, adlfs, gcsfs.
    found = facts.get("LastModified") or facts.get("last_modified") or facts["updated"]
    if isinstance(found, str):
        # Python 3.10 reads no Z.
        found = datetime.fromisoformat(found.replace("Z", "+00:00"))
    assert isinstance(found, datetime)
    return int(found.timestamp() * 1e6) * 1000
