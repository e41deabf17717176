"""Bodies made plain, never larger than agreed: the limit counts what comes out, before anything looks at it."""

from __future__ import annotations

import zlib

import zstandard

from looptap_collector.server.errors import Refusal

ENCODINGS = ("identity", "gzip", "zstd")
#: A frame that wants a larger window than the agent ever uses wants our memory.
_WINDOW_BYTES = 1 << 23


def inflate(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The plain body. Raises :class:`Refusal`: 413 when it is longer than ``limit_bytes``, 400 when it is damaged, cut
    short or followed by anything, 415 for an encoding that we do not know (two of them included)."""
    if encoding in ("", "identity"):
        plain = body
    elif encoding == "zstd":
        plain = _zstd(body, limit_bytes)
    elif encoding == "gzip":
        plain = _gzip(body, limit_bytes)
    else:
        raise Refusal(
            415,
            "unsupported_encoding",
            f"the encoding {encoding[:40]!r} is not known",
            hint=f"use {', '.join(ENCODINGS)}",
        )
    if len(plain) > limit_bytes:
        raise _too_large(limit_bytes)
    return plain


def _zstd(body: bytes, limit_bytes: int) -> bytes:
    try:
        # Looked at before anything is allocated: a frame has to say how large its content is.
        size = zstandard.frame_content_size(body)
        if size < 0:
            raise _damaged("zstd", "the frame does not say how large its content is")
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        return decompressor.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _damaged("zstd", str(error)) from error


def _gzip(body: bytes, limit_bytes: int) -> bytes:
    decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = decompressor.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise _damaged("gzip", str(error)) from error
    if len(plain) > limit_bytes:
        raise _too_large(limit_bytes)
    if not decompressor.eof:
        raise _damaged("gzip", "the end is missing")
    if decompressor.unused_data:
        raise _damaged("gzip", "something follows the end")
    return plain


def _too_large(limit_bytes: int) -> Refusal:
    return Refusal(413, "too_large", f"the plain body is longer than {limit_bytes} bytes", hint="send smaller batches")


def _damaged(encoding: str, why: str) -> Refusal:
    return Refusal(400, "malformed", f"the body is not {encoding}: {why}")
