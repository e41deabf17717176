"""Tokens: how they are made, kept and recognised.

A token is ``lt_``, 43 characters of 256 random bits, and 6 that are a checksum of these, so that scanners for leaked
secrets (and we, without looking anything up) can tell a token from a word that looks like one. The store keeps its
SHA-256 only. The first start of a server on a machine makes one token for the local user, in a file that nobody else
can read.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import threading
import time
import zlib
from pathlib import Path

from looptap_collector.backend import TokenRow, TokenStore
from looptap_collector.server.access import Caller, Scope

_FORM = re.compile(r"lt_([A-Za-z0-9_-]{43})([0-9a-f]{6})\Z")
#: A token that was revoked is refused after so many seconds at the latest.
REFRESH_SECONDS = 1.0
_USED_SECONDS = 10.0
LOCAL_NAME = "local"


class UnsafeTokenFile(Exception):
    """The file of the local token could be read or was made by somebody else; one line that says how to mend it."""


def new_token() -> str:
    body = secrets.token_urlsafe(32)
    return f"lt_{body}{_checksum(body)}"


def is_token(text: str) -> bool:
    """Whether this could be a token at all."""
    found = _FORM.match(text)
    return found is not None and found[2] == _checksum(found[1])


def hash_of(token: str) -> str:
    """SHA-256 in hex. No salt and no slow hash: 256 random bits cannot be guessed."""
    return hashlib.sha256(token.encode()).hexdigest()


def row_of(token: str, name: str, scope: Scope, *, expires_ns: int | None = None) -> TokenRow:
    """What the store keeps of a new token."""
    hash = hash_of(token)
    return TokenRow(
        id=hash[:8], name=name, scope=scope.value, hash=hash, created_ns=time.time_ns(), expires_ns=expires_ns
    )


def is_live(row: TokenRow, now_ns: int) -> bool:
    return row.revoked_ns is None and (row.expires_ns is None or row.expires_ns > now_ns)


class Keyring:
    """The store's tokens in memory. :meth:`refresh` asks the store; :meth:`caller` never does."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._by_hash: dict[str, TokenRow] = {}
        self._used: dict[str, int] = {}
        self._told_used_at = time.monotonic()
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Raises what the store raises; what was known stays known then."""
        self._by_hash = {row.hash: row for row in self._store.tokens()}
        with self._lock:
            if time.monotonic() - self._told_used_at < _USED_SECONDS:
                return
            self._told_used_at = time.monotonic()
            used, self._used = self._used, {}
        for token, at_ns in used.items():
            self._store.token_used(token, at_ns)

    def caller(self, token: str) -> Caller | str:
        """Who this is; or why nobody: ``unknown``, ``expired``, ``revoked``."""
        # Looked up by hash: how long that takes says nothing about the token.
        row = self._by_hash.get(hash_of(token)) if is_token(token) else None
        if row is None:
            return "unknown"
        now_ns = time.time_ns()
        if not is_live(row, now_ns):
            return "revoked" if row.revoked_ns is not None else "expired"
        self._used[row.id] = now_ns
        return Caller(row.name, Scope(row.scope), row.id)


def local_token_file() -> Path:
    """``looptap/token`` in the user's configuration folder."""
    configured = os.environ.get("XDG_CONFIG_HOME")
    home = Path(configured) if configured and os.path.isabs(configured) else Path.home() / ".config"
    return home / "looptap" / "token"


def ensure_local_token(store: TokenStore, path: Path | None = None) -> Path:
    """The token of this machine's user is in its file, made when it is missing, and the store knows it as an ``admin``,
    unless it was revoked there. Returns the file. Raises :class:`UnsafeTokenFile` and OSError."""
    path = path or local_token_file()
    token = _read(path) or _create(path)
    known = {row.hash for row in store.tokens()}
    if hash_of(token) not in known:
        store.add_token(row_of(token, LOCAL_NAME, Scope.ADMIN))
    return path


def _read(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor) as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise UnsafeTokenFile(
                f"{path} can be read by others or belongs to somebody else: remove it and start again"
            )
        token = file.read(200).strip()
    if not is_token(token):
        raise UnsafeTokenFile(f"{path} does not hold a token: remove it and start again")
    return token


def _create(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = new_token()
    # Written whole under another name first: an agent that starts at this moment must not read half a token.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
        os.link(draft, path)
    except FileExistsError:  # another server of this user was faster
        return _read(path) or token
    finally:
        os.unlink(draft)
    return token


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()) & 0xFFFFFF:06x}"
