"""The bytes of a segment: a header, then frames.

::

    header   "LTAPJ\\n"  version u16  crc32 u32 (of the eight bytes before)
    frame    magic 2     length u32   crc32 u32   sequence u64   count u32   payload (MessagePack of one JournalRecord)

All numbers are little-endian. The CRC covers sequence, count and payload and starts from a value made of the format version and
the journal's id: a frame of another journal, which a file system may show in a file after a power loss, is not valid here.
No byte of the magic can occur in UTF-8 text, so no text that a user logs looks like a frame.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

import msgspec

from looptap.events import (
    Alert,
    Artifact,
    Cells,
    Dataset,
    Dropped,
    Environment,
    File,
    JournalRecord,
    Note,
    Param,
    Points,
    RunEnded,
    RunStarted,
    Tag,
    Window,
)

VERSION = 3
FRAME_MAGIC = b"\xc1\xfe"
#: A record of more bytes than this is refused by the writer, so a length beyond it is damage.
MAX_PAYLOAD = 16 * 2**20

_HEADER = struct.Struct("<6sHI")
_HEADER_MAGIC = b"LTAPJ\n"
HEADER_BYTES = _HEADER.size
FRAME_HEAD = struct.Struct("<2sII")
FRAME_BODY = struct.Struct("<QI")
FRAME_BYTES = FRAME_HEAD.size + FRAME_BODY.size

encode = msgspec.msgpack.Encoder().encode
# msgspec decodes unions of structs that are all maps; points, the many, are arrays.
_decode_array = msgspec.msgpack.Decoder(Points).decode
_decode_map = msgspec.msgpack.Decoder(
    RunStarted | Environment | Param | Tag | File | Artifact | Dataset | Alert | Window | Note | RunEnded | Dropped
).decode
_decode_cells = msgspec.msgpack.Decoder(Cells).decode


class Frame(NamedTuple):
    """A valid frame: ``data[payload:end]`` is its record, which takes the numbers ``seq`` … ``seq + takes - 1``."""

    seq: int
    takes: int
    payload: int
    end: int


class UnknownFormat(Exception):
    """The bytes are whole, but of a format that this version of looptap does not know."""


def decode(payload: bytes | memoryview) -> JournalRecord:
    """Raises :class:`UnknownFormat` for a record of a type that this version does not know."""
    try:
        is_array = payload[0] & 0xF0 == 0x90 or payload[0] == 0xDC
        record: JournalRecord = _decode_array(payload) if is_array else _decode_map(payload)
        return record
    except (msgspec.MsgspecError, UnicodeDecodeError, IndexError) as error:
        raise UnknownFormat(f"a record that this version does not know ({error})") from error


def decode_cells(payload: bytes | memoryview) -> Cells:
    """The record that :func:`is_cells` has seen. Raises :class:`UnknownFormat` when it is of another shape."""
    try:
        return _decode_cells(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnknownFormat(f"cells that this version does not know ({error})") from error


def is_points(payload: bytes) -> bool:
    """Without decoding it: the tag of a :class:`Points` is its first item."""
    return payload[1:8] == b"\xa6points"


def is_cells(payload: bytes) -> bool:
    """Without decoding it: the tag of a :class:`Cells` is its first field."""
    return payload[1:12] == b"\xa4type\xa5cells"


def checksum_start(journal: str) -> int:
    """What every CRC of this journal starts from."""
    return crc32(f"looptap journal {VERSION} {journal}".encode())


def pack(seq: int, count: int, payload: bytes, start: int) -> bytes:
    """One frame, ready to be written."""
    body = FRAME_BODY.pack(seq, count) + payload
    return FRAME_HEAD.pack(FRAME_MAGIC, len(payload), crc32(body, start)) + body


def frame_at(data: bytes, at: int, start: int) -> Frame | None:
    """The frame that begins at ``at``; None when the bytes there are no whole and valid frame."""
    if len(data) - at < FRAME_BYTES:
        return None
    magic, length, checksum = FRAME_HEAD.unpack_from(data, at)
    body = at + FRAME_HEAD.size
    end = body + FRAME_BODY.size + length
    if magic != FRAME_MAGIC or length > MAX_PAYLOAD or end > len(data):
        return None
    if crc32(memoryview(data)[body:end], start) != checksum:
        return None
    seq, count = FRAME_BODY.unpack_from(data, body)
    return Frame(seq, count, body + FRAME_BODY.size, end)


def bytes_wanted(data: bytes, at: int) -> int:
    """How many bytes from ``at`` a frame that begins there needs, judging by what of its head is there."""
    if len(data) - at < FRAME_HEAD.size:
        return FRAME_BYTES
    magic, length, _ = FRAME_HEAD.unpack_from(data, at)
    return FRAME_BYTES + int(length) if magic == FRAME_MAGIC and length <= MAX_PAYLOAD else FRAME_BYTES


def pack_header() -> bytes:
    start = _HEADER.pack(_HEADER_MAGIC, VERSION, 0)[:8]
    return start + crc32(start).to_bytes(4, "little")


def is_header(data: bytes) -> bool:
    """Whether a segment's first bytes are a header of this version; False for a damaged or missing one, behind which every
    frame still has a CRC of its own. Raises :class:`UnknownFormat` for a whole header of another version."""
    if len(data) < HEADER_BYTES:
        return False
    magic, version, checksum = _HEADER.unpack_from(data)
    if magic != _HEADER_MAGIC or crc32(data[:8]) != checksum:
        return False
    if version != VERSION:
        raise UnknownFormat(f"journal format {version}; this version of looptap knows format {VERSION}")
    return True
