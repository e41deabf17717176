"""Looks for bodies that make the collector raise anything but a refusal, on the way from the wire to a store in memory.

::

    pip install atheris
    PYTHONPATH=agent:collector python tests/fuzz/fuzz_batches.py -max_total_time=600 -max_len=4096 -timeout=2

Not part of the test suite; what it finds becomes an example there (tests/collector/server/test_fuzzing.py). The first byte says
how the rest is compressed. A corpus folder may be given as a last argument.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["looptap_collector.server", "looptap_collector.validation"]):
    from looptap_collector.backend import Rejected
    from looptap_collector.pipeline import Pipeline
    from looptap_collector.server.errors import Refusal
    from looptap_collector.server.inflate import inflate
    from looptap_collector.server.intake import _batch

from looptap_collector.backends.sqlite import SqliteBackend

_ENCODINGS = ("identity", "identity", "gzip", "zstd")
_pipeline = Pipeline(SqliteBackend(Path(tempfile.mkdtemp(prefix="fuzz")) / "looptap.db"))


def one_body(data: bytes) -> None:
    encoding = _ENCODINGS[data[0] % len(_ENCODINGS)] if data else "identity"
    try:
        _pipeline.accept(_batch(inflate(data[1:], encoding, 1 << 20)), "somebody")
    except (Refusal, Rejected):
        return


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_body)
    atheris.Fuzz()
