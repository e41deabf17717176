"""The folder of a journal: how it is made, whom it belongs to, and whether that one is still alive.

A journal has one owner at a time, who holds the flock on its ``lock`` file. The lock dies with the process, however it dies, and
it is the only sign of life that is asked. Folders appear under their name complete and locked, and leave it before the first of
their files is removed, so nobody ever meets half a journal.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from looptap.journal.frames import VERSION

SEGMENT_SUFFIX = ".ltj"
META = "journal.json"
LOCK = "lock"
CURSOR = "cursor"
#: So the names begin of what living processes leave for each other in it (:mod:`looptap.journal.beside`).
BESIDE = "beside."

_BEING_MADE = ".new"
_BEING_REMOVED = ".gone"
_ABANDONED_MAKING_SECONDS = 3600.0
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class Unusable(Exception):
    """This place cannot hold a journal, or not safely; the message says why in one line."""


class JournalMeta(msgspec.Struct, frozen=True):
    """Whose records a journal holds. ``store`` is an absolute folder, a URL or ``off``.

    ``is_primary``: the process speaks for its ``rank`` of the run, which is over when it dies; False in a forked child.
    """

    format: int
    journal: str
    run: str
    run_name: str
    store: str
    is_primary: bool
    pid: int
    host: str
    boot: str
    created_ns: int
    rank: int = 0
    #: The control groups of the process, as ``/proc/PID/cgroup`` tells them while it lives.
    cgroups: str = ""

    @classmethod
    def of_this_process(
        cls, run: str, run_name: str, store: str, is_primary: bool = True, rank: int = 0
    ) -> JournalMeta:
        now = time.time_ns()
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9))
        journal = f"{moment}.{now % 10**9:09d}-{os.urandom(4).hex()}"
        host = socket.gethostname()
        return cls(
            VERSION, journal, run, run_name, store, is_primary, os.getpid(), host, boot_id(), now, rank, _cgroups()
        )

    def is_of_this_machine(self) -> bool:
        """Whether our look at the lock tells anything: it was made under this kernel (perhaps in another container), or here
        before a restart."""
        return (self.boot != "" and self.boot == boot_id()) or self.host == socket.gethostname()


@dataclass
class Owned:
    """A journal folder and the open file that holds its lock."""

    folder: Path
    lock: int

    def release(self) -> None:
        """Closes the lock; a second time nothing happens. In a forked child this leaves the parent's lock alone: the flock
        belongs to the open file, which the parent still has."""
        lock, self.lock = self.lock, -1
        if lock >= 0:
            with contextlib.suppress(OSError):
                os.close(lock)

    def remove(self) -> None:
        """Remove the folder with all of our files and release it. Raises OSError when that fails."""
        gone = self.folder.with_name(f".{self.folder.name}{_BEING_REMOVED}")
        try:
            os.rename(self.folder, gone)
            _remove_files(gone)
        finally:
            self.release()


def boot_id() -> str:
    """Names this start of the kernel; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _cgroups() -> str:
    try:
        return Path("/proc/self/cgroup").read_text("utf-8", "replace")
    except OSError:
        return ""


def create(root: Path, meta: JournalMeta) -> Owned:
    """Make the folder of a new journal and lock it. Raises :class:`Unusable` or OSError, and then leaves nothing behind."""
    os.makedirs(root, mode=0o700, exist_ok=True)
    check_private(root)
    making = root / f".{meta.journal}{_BEING_MADE}"
    os.mkdir(making, 0o700)
    lock = -1
    try:
        lock = os.open(making / LOCK, _CREATE, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fd = os.open(making / META, _CREATE, 0o600)
        try:
            os.write(fd, msgspec.json.encode(meta))
        finally:
            os.close(fd)
        os.rename(making, root / meta.journal)
    except BaseException:
        if lock >= 0:
            os.close(lock)
        with contextlib.suppress(OSError):
            _remove_files(making)
        raise
    return Owned(root / meta.journal, lock)


def check_private(folder: Path) -> None:
    """Raises :class:`Unusable` unless it is a real folder of this user in which nobody else can write."""
    state = os.lstat(folder)
    if stat.S_ISLNK(state.st_mode):
        raise Unusable(f"{folder} is a symbolic link")
    if not stat.S_ISDIR(state.st_mode):
        raise Unusable(f"{folder} is not a folder")
    if state.st_uid != os.geteuid():
        raise Unusable(f"{folder} belongs to another user (id {state.st_uid})")
    if state.st_mode & 0o022:
        raise Unusable(f"{folder} can be written by other users; chmod go-w it")


def find_journals(root: Path) -> list[Path]:
    """Folders of journals, oldest first, whether their owners live or not. Raises :class:`Unusable` or OSError."""
    check_private(root)
    with os.scandir(root) as entries:
        names = [item.name for item in entries if not item.name.startswith(".") and item.is_dir(follow_symlinks=False)]
    return [root / name for name in sorted(names)]


def try_adopt(folder: Path) -> Owned | None:
    """Take the lock of a journal whose owner is dead; None when it lives, or when the journal is gone.

    Raises :class:`Unusable` or OSError.
    """
    try:
        check_private(folder)
        # A power loss may have taken the lock file, which was never made durable.
        lock = os.open(folder / LOCK, _OPEN | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open and flock somebody else may have adopted, delivered and removed it.
        if os.path.samestat(os.fstat(lock), os.lstat(folder / LOCK)):
            return Owned(folder, lock)
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def read_meta(folder: Path) -> JournalMeta:
    """Raises :class:`Unusable` when there is none that this version can read."""
    try:
        data = _read_small(folder / META)
        version = msgspec.json.decode(data, type=_Format).format
        if version != VERSION:
            raise Unusable(f"journal format {version}; this version of looptap knows format {VERSION}")
        return msgspec.json.decode(data, type=JournalMeta)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unusable(f"{META} cannot be read ({error})") from error


class _Format(msgspec.Struct):
    format: int


def make_durable(folder: Path) -> None:
    """Let the folder and what says whose it is survive a power loss. Waits for the disk: not for the training thread."""
    _sync(folder / META)
    _sync(folder)
    _sync(folder.parent)


def sweep(root: Path) -> None:
    """Remove what was left of folders whose making or removal was cut short."""
    with os.scandir(root) as entries:
        names = [item.name for item in entries if item.name.startswith(".") and item.is_dir(follow_symlinks=False)]
    for name in names:
        folder = root / name
        with contextlib.suppress(OSError):
            age = time.time() - folder.stat().st_mtime
            if name.endswith(_BEING_REMOVED) or (name.endswith(_BEING_MADE) and age > _ABANDONED_MAKING_SECONDS):
                _remove_files(folder)


class Cursor(msgspec.Struct, frozen=True):
    """``next`` is one past the last record that is safe in the store. ``ended``: the end of the run was among them."""

    next: int = 0
    ended: bool = False


def read_cursor(folder: Path) -> Cursor:
    """Starts at 0 when it is missing or damaged: the store's own position keeps records from being stored twice."""
    try:
        cursor = msgspec.json.decode(_read_small(folder / CURSOR), type=Cursor)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Cursor()
    return cursor if cursor.next >= 0 else Cursor()


def write_cursor(folder: Path, cursor: Cursor, *, durable: bool) -> None:
    """Replace the cursor at once; ``durable`` waits until that survives a power loss. Raises OSError."""
    new = folder / f"{CURSOR}{_BEING_MADE}"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        data = msgspec.json.encode(cursor)
        if os.write(fd, data) != len(data):
            raise OSError(f"short write to {new}")
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(new, folder / CURSOR)
    if durable:
        _sync(folder)


class Segment(msgspec.Struct, frozen=True, order=True):
    """In the order of writing. ``attempt`` tells files apart that begin with the same number."""

    first: int
    attempt: int

    @property
    def name(self) -> str:
        attempt = f"-{self.attempt}" if self.attempt else ""
        return f"{self.first:020d}{attempt}{SEGMENT_SUFFIX}"


def segments(folder: Path) -> list[Segment]:
    """In the order of writing; empty when the folder is gone. Raises OSError for any other trouble."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(segment for name in names if (segment := _segment(name)) is not None)


def _segment(name: str) -> Segment | None:
    if not name.endswith(SEGMENT_SUFFIX):
        return None
    first, _, attempt = name.removesuffix(SEGMENT_SUFFIX).partition("-")
    if len(first) != 20 or not first.isdecimal() or not (attempt == "" or attempt.isdecimal()):
        return None
    return Segment(int(first), int(attempt or 0))


def open_for_reading(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)


def _read_small(path: Path) -> bytes:
    fd = open_for_reading(path)
    try:
        return os.read(fd, 65_536)
    finally:
        os.close(fd)


def _sync(path: Path) -> None:
    fd = open_for_reading(path)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove_files(folder: Path) -> None:
    """Only what a journal consists of; a folder with anything else in it stays. The lock goes last."""
    names = os.listdir(folder)
    ours = {META, CURSOR, f"{CURSOR}{_BEING_MADE}"}
    for name in names:
        if name in ours or name.endswith(SEGMENT_SUFFIX) or name.startswith(BESIDE):
            os.unlink(folder / name)
    if LOCK in names:
        os.unlink(folder / LOCK)
    os.rmdir(folder)
