"""From an address, as a user writes it, to an artifact store."""

from __future__ import annotations

import re
from pathlib import Path

from looptap_collector.artifacts.local import LocalArtifacts
from looptap_collector.artifacts.store import ArtifactStore, ArtifactsUnavailable

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Strict: what else fits into an address (user:secret@, ?sig=, *, ..) is a secret, an option or a pattern.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]\Z")
_PREFIX = re.compile(r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._=+-]+(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._=+-]+)*\Z")


def open_artifacts(address: str | Path) -> ArtifactStore:
    """The store at ``address``: a folder, ``s3://bucket/prefix``, ``az://container/prefix`` (or ``abfs://``) or
    ``gs://bucket/prefix``. A folder is made when first needed; a bucket has to be there and is asked for at once.

    Credentials come from where the programs of that cloud look for them, never from the address. Raises
    :class:`ArtifactsUnavailable`, one line, when the address is wrong, a package is missing, there is no such bucket, it
    cannot be reached or refuses the credentials.
    """
    text = str(address)
    scheme = _SCHEME.match(text) if isinstance(address, str) else None
    if scheme is None:
        return LocalArtifacts(Path(text).expanduser().absolute())
    from looptap_collector.artifacts.clouds import CLOUDS
    from looptap_collector.artifacts.remote import RemoteArtifacts

    name = scheme[1].lower()
    if name not in CLOUDS:
        raise ArtifactsUnavailable(f"artifacts cannot be kept at {name}://…; {_FORMS}")
    bucket, _, prefix = text[scheme.end() :].partition("/")
    prefix = prefix.rstrip("/")
    if not _BUCKET.match(bucket) or (prefix and not _PREFIX.match(prefix)):
        # Not repeated: it may hold a password.
        raise ArtifactsUnavailable(f"the address of the artifacts, {name}://…, is not well formed; {_FORMS}")
    return RemoteArtifacts(CLOUDS[name], bucket, prefix)


_FORMS = (
    "give a folder, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix, "
    "and leave credentials and options to the environment"
)
