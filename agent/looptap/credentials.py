"""Which token goes to which collector.

The setting ``token`` goes to the collector of the setting ``store`` and, where that is a folder or not set, to any. Without it, a
collector on this machine gets the token that its first start left in a file of the user's; that one never leaves the machine. No
token goes over plain http to another machine, unless the setting ``insecure`` allows it.

A token is never written anywhere: not into a journal, an address, a log or an error.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

from looptap import settings as places
from looptap.settings import Settings, is_collector
from looptap.sinks import NeedsUser

_TOKEN_BYTES = 4_096


def token_for(address: str, settings: Settings) -> str | None:
    """The token for the collector at this address; None where there is none for it.

    Raises :class:`NeedsUser` where there is one that must not be sent, or a file that is not safe.
    """
    if settings.token and (not is_collector(settings.store) or _origin(settings.store) == _origin(address)):
        if not (is_loopback(address) or address.startswith("https://") or settings.insecure):
            raise NeedsUser(
                f"the token is not sent to {address}: anybody on the way could read it; use https, or set LOOPTAP_INSECURE=1"
            )
        return settings.token
    return _local_token() if is_loopback(address) else None


def is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_file() -> Path | None:
    """Where the first start of a collector leaves its token; None when the user has no home."""
    folder = os.environ.get("XDG_CONFIG_HOME")
    if folder and os.path.isabs(folder):
        return Path(folder) / "looptap" / "token"
    try:
        return Path.home() / ".config" / "looptap" / "token"
    except RuntimeError:  # HOME unset and no such user in the password database
        return None


def _local_token() -> str | None:
    path = token_file()
    if path is None:
        return None
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NeedsUser(f"the token in {path} cannot be read: {error.strerror}") from None
    try:
        state = os.fstat(file)
        if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid():
            raise NeedsUser(f"{path} is not used: it is not a file of this user")
        if state.st_mode & 0o077:
            raise NeedsUser(f"{path} is not used: others may read or write it; chmod 600 it")
        text = os.read(file, _TOKEN_BYTES)
    finally:
        os.close(file)
    try:
        # Held to the same rules as a token from anywhere else.
        return places.TABLE["token"].metadata["read"](text.decode("ascii")) or None
    except ValueError:
        raise NeedsUser(f"{path} is not used: it holds no token") from None


def _origin(address: str) -> tuple[str, str | None, int]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
