"""From an artifact of a run to a file on this machine.

The name that a run gave to its file is a label: of it only the last part, cleaned, ever names a file, and what is there is not
replaced unless the caller says so. The content is checked before the file appears.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from looptap_collector.artifacts.sources import write_all
from looptap_collector.artifacts.store import Contents, DamagedArtifact

#: A shorter beginning of a digest is too easily hit by accident.
SHORTEST_DIGEST_PREFIX = 6


class UnknownArtifact(LookupError):
    """The run has no such artifact, or not its content. The message is one line and says what there is."""


class Named(Protocol):
    """What a run's list of artifacts tells of each."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str | None: ...
    @property
    def missing(self) -> str | None: ...


_Artifact = TypeVar("_Artifact", bound=Named)


def choose(artifacts: Sequence[_Artifact], which: str) -> _Artifact:
    """The artifact meant by its name (the newest of that name; ``artifacts`` are in the order of time), its digest or the
    beginning of one. It has content. Raises :class:`UnknownArtifact`."""
    found = [item for item in artifacts if item.name == which]
    if not found and len(which) >= SHORTEST_DIGEST_PREFIX:
        found = [item for item in artifacts if item.digest is not None and item.digest.startswith(which)]
        if len({item.digest for item in found}) > 1:
            raise UnknownArtifact(f"several artifacts of the run have a digest that begins with {which!r}")
    if not found:
        names = list(dict.fromkeys(item.name for item in artifacts))
        some = ", ".join(names[:5]) + (f", … ({len(names)} in all)" if len(names) > 5 else "")
        raise UnknownArtifact(f"the run has no artifact {which!r}; it has: {some or 'none'}")
    kept = [item for item in found if item.digest is not None]
    if not kept:
        raise UnknownArtifact(f"the content of {which!r} was not kept: {found[-1].missing or 'unknown why'}")
    return kept[-1]


def file_name(name: str) -> str:
    """A file name made of an artifact's name, with nothing in it that a file system or a terminal takes for more."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last)[-100:].strip(".-") or "artifact"


def place_for(to: str | os.PathLike[str], name: str) -> Path:
    """Where a file that a run called ``name`` goes: to this path, or into it where it is a folder or, ending as folders are
    written, is to be one."""
    is_folder = os.fspath(to).endswith(tuple(filter(None, (os.sep, os.altsep))))
    target = Path(to)
    if is_folder:
        target.mkdir(parents=True, exist_ok=True)
    return target / file_name(name) if target.is_dir() else target


def save(
    store: Contents,
    digest: str,
    target: Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the content of ``digest`` to ``target``, which appears complete and verified, or not at all.

    ``progress`` is told the bytes so far and the bytes in all. Raises FileExistsError, KeyError when the content is not in
    the store, :class:`DamagedArtifact`, or OSError.
    """
    if not overwrite and os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    size = store.size(digest)
    partial = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        error.filename = str(target)  # not the name that only exists meanwhile
        raise
    try:
        try:
            checksum, received = hashlib.sha256(), 0
            for block in store.read(digest, 0, size):
                write_all(file, block)
                checksum.update(block)
                received += len(block)
                if progress is not None:
                    progress(received, size)
            os.fsync(file)
        finally:
            os.close(file)
        if checksum.hexdigest() != digest:
            raise DamagedArtifact(f"artifact {digest} has other content than its digest says")
        _appear(partial, target, overwrite)
    finally:
        partial.unlink(missing_ok=True)


def _appear(partial: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(partial, target)
        return
    try:
        os.link(partial, target)  # unlike a rename, it never replaces what came there meanwhile
        return
    except FileExistsError as error:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
    except OSError:
        pass
    # A file system without hard links: the empty file holds the place.
    with contextlib.closing(target.open("xb")):
        os.replace(partial, target)
