"""Looks for files that make the reader of a journal raise, hang, or go backwards.

::

    pip install atheris
    PYTHONPATH=agent:collector python tests/fuzz/fuzz_journals.py -max_total_time=600 -max_len=8192 -timeout=2

Not part of the test suite; what it finds becomes an example there (tests/agent/journal/test_reader.py). A segment of a real journal
makes a good corpus.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["looptap.journal", "looptap.frames"]):
    from looptap.journal.frames import checksum_start, pack, pack_header
    from looptap.journal.reader import JournalReader

_START = checksum_start("fuzzed")
_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz"))
_SEGMENT = _FOLDER / f"{0:020}.ltj"


def one_segment(data: bytes) -> None:
    """Half of the time as they are, half of the time as the payloads of frames whose checksums are right."""
    given = atheris.FuzzedDataProvider(data)
    pieces = [pack_header()]
    while given.remaining_bytes():
        if given.ConsumeBool():
            pieces.append(given.ConsumeBytes(given.ConsumeIntInRange(1, 64)))
        else:
            seq, count = given.ConsumeIntInRange(0, 2**64 - 1) >> given.ConsumeIntInRange(0, 63), given.ConsumeInt(4)
            payload = given.ConsumeBytes(given.ConsumeIntInRange(0, 128))
            pieces.append(pack(seq, count & 0xFFFFFFFF, payload, _START))
    _SEGMENT.write_bytes(b"".join(pieces))
    reader = JournalReader(_FOLDER, journal="fuzzed")
    last = 0
    while some := reader.read(1 << 20):
        for seq, _, _ in some:
            assert seq >= last
            last = seq


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_segment)
    atheris.Fuzz()
