"""What identifies data: a digest, and what it covers.

Of files that is a *manifest*: the name below the root, the size and the time of the last change of each file, in order of the
names, or with the content of each instead of its time. All bounded in number and time, and made off the training thread.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple, TypeAlias

MANIFEST = "names, sizes, mtimes"
CONTENT = "content"
SAMPLED = "sampled content"
SHA256 = "sha256"
MOST_FILES = 1_000_000
MOST_SECONDS = 60.0
CONTENT_SECONDS = 3_600.0
_BLOCK_BYTES = 2**20
#: After so many files other threads get their turn.
_BREATH = 100
#: Our own, which changes with every run.
_STORE = ".looptap"


class Unknown(Exception):
    """There is no fingerprint; the message is the reason, in few words."""


class Fingerprint(NamedTuple):
    value: str
    covers: str
    algorithm: str = SHA256


class Files(NamedTuple):
    """Files whose fingerprint is still to be made: all below a folder, or one file. ``below``: names of folders in it, of which the
    first that is there is meant. ``only``: paths from ``root`` on, of the files that are meant and no others."""

    root: str
    below: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


#: Name below the root, size, time of the last change, path.
_Listed: TypeAlias = tuple[bytes, int, int, str]

#: Of what a fingerprint is made: what is known, and what must be looked into.
Part: TypeAlias = Fingerprint | Files


class Made(NamedTuple):
    fingerprint: Fingerprint
    #: The folder or file that it is of.
    place: str
    files: int
    size_bytes: int


def digest(*pieces: bytes) -> str:
    """Of several pieces, each told apart from the next."""
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(len(piece).to_bytes(8, "little"))
        whole.update(piece)
    return whole.hexdigest()


def together(parts: Iterable[Fingerprint]) -> Fingerprint:
    """One fingerprint of several, in this order; of one, itself."""
    known = list(parts)
    if len(known) == 1:
        return known[0]
    covers = " + ".join(dict.fromkeys(part.covers for part in known))
    return Fingerprint(digest(*(f"{part.algorithm}:{part.value}".encode() for part in known)), covers)


def of_files(files: Files, *, content: bool = False, is_wanted: Callable[[], bool] = lambda: True) -> Made:
    """Of one file: of its content. Of a folder: of its manifest; with ``content`` the time of each file gives way to its content.

    Raises :class:`Unknown`, also when ``is_wanted`` has become false meanwhile.
    """
    until = time.monotonic() + (CONTENT_SECONDS if content else MOST_SECONDS)

    def go_on() -> None:
        if not is_wanted():
            raise Unknown("the run ended before it was known")
        if time.monotonic() > until:
            raise Unknown("it took too long")

    try:
        root = _place(files)
        facts = os.stat(root)
        if stat.S_ISREG(facts.st_mode):
            return Made(Fingerprint(_content(root, go_on), CONTENT), root, 1, facts.st_size)
        if not stat.S_ISDIR(facts.st_mode):
            raise Unknown("neither a file nor a folder")
        if files.only:
            return _of_several(root, files.only, content, go_on)
        _check(root)
        return _of_folder(root, content, go_on)
    except FileNotFoundError as error:
        raise Unknown("its files are not there") from error
    except OSError as error:
        raise Unknown(f"it cannot be read ({error.strerror or type(error).__name__})") from error
    except ValueError as error:  # a NUL in the path
        raise Unknown("no path") from error


def _place(files: Files) -> str:
    root = os.path.abspath(os.path.expanduser(files.root))
    inside = (os.path.join(root, name) for name in files.below if name)
    return next((place for place in inside if os.path.isdir(place)), root)


def _check(root: str) -> None:
    """Raises :class:`Unknown` for a folder that has more in it than the data."""
    real, folders = os.path.realpath(root), {"the home folder": os.path.expanduser("~")}
    with suppress(OSError):  # it was deleted
        folders["the working directory"] = os.getcwd()
    for what, folder in folders.items():
        if os.path.isabs(folder) and os.path.commonpath((os.path.realpath(folder), real)) == real:
            raise Unknown(f"its root is {what}, or a folder above it")


def _of_several(root: str, names: tuple[str, ...], content: bool, go_on: Callable[[], None]) -> Made:
    listed: list[_Listed] = []
    for count, name in enumerate(names):
        if count % _BREATH == 0:
            go_on()
            time.sleep(0)
        path = os.path.join(root, name)
        facts = os.stat(path)
        listed.append((os.fsencode(name), facts.st_size, facts.st_mtime_ns, path))
    return _of_listed(root, listed, content, go_on)


def _of_folder(root: str, content: bool, go_on: Callable[[], None]) -> Made:
    listed: list[_Listed] = []
    above = len(os.fsencode(root)) + 1
    for entry in _entries(root, go_on):
        facts = entry.stat()
        if stat.S_ISREG(facts.st_mode):
            listed.append((os.fsencode(entry.path)[above:], facts.st_size, facts.st_mtime_ns, entry.path))
            if len(listed) > MOST_FILES:
                raise Unknown(f"more than {MOST_FILES:,} files")
    return _of_listed(root, listed, content, go_on)


def _of_listed(root: str, listed: list[_Listed], content: bool, go_on: Callable[[], None]) -> Made:
    listed.sort()
    whole = hashlib.sha256()
    for name, size, modified_ns, path in listed:
        last = _content(path, go_on) if content else str(modified_ns)
        whole.update(b"%d:%b %d %b\n" % (len(name), name, size, last.encode()))
    covers = "names, content" if content else MANIFEST
    return Made(Fingerprint(whole.hexdigest(), covers), root, len(listed), sum(size for _, size, *_ in listed))


def _entries(root: str, go_on: Callable[[], None]) -> Iterator[os.DirEntry[str]]:
    """Files below, in any order. Links to folders are not followed: they may lead in a circle."""
    folders, count = [root], 0
    while folders:
        with os.scandir(folders.pop()) as found:
            for entry in found:
                count += 1
                if count % _BREATH == 0:
                    go_on()
                    time.sleep(0)
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != _STORE:
                        folders.append(entry.path)
                elif entry.is_file():  # a link that leads nowhere is none
                    yield entry


def _content(path: str, go_on: Callable[[], None]) -> str:
    whole = hashlib.sha256()
    # Without waiting: it may be a pipe by now.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise Unknown("neither a file nor a folder")
        while block := os.read(descriptor, _BLOCK_BYTES):
            whole.update(block)
            go_on()
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise Unknown("it changed while it was read")
    return whole.hexdigest()
