"""Looks for bodies that make the collector raise anything but a refusal, on the way from the wire to a store in memory.

::

    pip install atheris
    PYTHONPATH=agent:collector python tests/fuzz/fuzz_batches.py -max_total_time=600 -max_len=4096 -timeout=2

Not part of the test suite; what it finds becomes an example there (tests/collector/server/test_fuzzing.py).
A corpus folder may be given as a last argument.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import msgspec

with atheris.instrument_imports(include=["looptap_collector"]):
    from looptap_collector.backend import Rejected
    from looptap_collector.pipeline import Pipeline
    from looptap_collector.server.errors import Refusal
    from looptap_collector.server.inflate import inflate
    from looptap_collector.server.intake import _batch

from looptap.events import Artifact, Dataset, Environment, Note, Param, RunEnded, RunStarted, Tag
from looptap_collector.backends.sqlite import SqliteBackend

_ENCODINGS = ("identity", "gzip", "zstd")
_WORDS = ("r1", "j1", "loss", "lr", "", "finished", "ab" * 32, "\0", "x" * 600)
_NUMBERS = (0, 1, 2, -1, 2**63 - 1, -(2**63), 2**64 - 1)
_TYPES = [RunStarted, Environment, Param, Tag, Artifact, Dataset, Note, RunEnded]
_FIELDS = {kind.__struct_config__.tag: kind.__struct_fields__ for kind in _TYPES}
_pipeline = Pipeline(SqliteBackend(Path(tempfile.mkdtemp(prefix="fuzz")) / "looptap.db"))


def one_body(data: bytes) -> None:
    given = atheris.FuzzedDataProvider(data)
    if given.ConsumeBool():
        # The decoder is not of Python, so atheris does not see what it looks for: bytes that are nearly a batch.
        body, encoding = msgspec.msgpack.encode(_batch_of(given)), "identity"
    else:
        encoding = given.PickValueInList(list(_ENCODINGS))
        body = given.ConsumeBytes(given.remaining_bytes())
    try:
        _pipeline.accept(_batch(inflate(body, encoding, 1 << 20)), "somebody")
    except (Refusal, Rejected):
        return


def _batch_of(given: atheris.FuzzedDataProvider) -> dict[str, Any]:
    is_likely = given.ConsumeIntInRange(0, 3) > 0
    run = f"r{given.ConsumeInt(1)}" if is_likely else _text(given)
    start = {"type": "run", "run": run, "name": _text(given) or "n", "experiment": "e", "time_ns": 1}
    return {
        "run": run,
        "journal": f"j{run}" if is_likely else _text(given),
        "first": given.ConsumeIntInRange(0, 3) if is_likely else _number(given),
        "next": given.ConsumeIntInRange(3, 20) if is_likely else _number(given),
        "series": [
            [
                _text(given),
                _map(given, _text),
                *(given.ConsumeBytes(8 * given.ConsumeIntInRange(0, 2)) for _ in range(3)),
            ]
            for _ in range(given.ConsumeIntInRange(0, 2))
        ],
        "records": [*([start] if is_likely else ()), *(_record(given) for _ in range(given.ConsumeIntInRange(0, 3)))],
        "dropped": _map(given, _number),
        "heartbeat_ns": _number(given),
    }


def _record(given: atheris.FuzzedDataProvider) -> dict[str, Any]:
    kind = given.PickValueInList(list(_FIELDS))
    return {"type": kind} | {field: _fitting(given, field) for field in _FIELDS[kind] if given.ConsumeIntInRange(0, 9)}


def _fitting(given: atheris.FuzzedDataProvider, field: str) -> Any:
    if given.ConsumeIntInRange(0, 9) == 0:
        return _value(given, 3)
    if field.endswith(("_ns", "_bytes")) or field in ("step", "pid"):
        return _number(given)
    if field in ("packages", "variables"):
        return _map(given, _text)
    return _value(given, 3) if field == "value" else _text(given)


def _value(given: atheris.FuzzedDataProvider, depth: int) -> Any:
    kind = given.ConsumeIntInRange(0, 6 if depth else 4)
    if kind == 5:
        return [_value(given, depth - 1) for _ in range(given.ConsumeIntInRange(0, 3))]
    if kind == 6:
        return _map(given, lambda given: _value(given, depth - 1))
    return [None, True, _number(given), given.ConsumeFloat(), _text(given)][kind]


def _map(given: atheris.FuzzedDataProvider, inner: Callable[[atheris.FuzzedDataProvider], Any]) -> dict[str, Any]:
    return {_text(given): inner(given) for _ in range(given.ConsumeIntInRange(0, 2))}


def _text(given: atheris.FuzzedDataProvider) -> str:
    if given.ConsumeBool():
        return str(given.PickValueInList(list(_WORDS)))
    return str(given.ConsumeUnicodeNoSurrogates(given.ConsumeIntInRange(0, 12)))


def _number(given: atheris.FuzzedDataProvider) -> int:
    return int(given.PickValueInList(list(_NUMBERS)) if given.ConsumeBool() else given.ConsumeInt(8))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_body)
    atheris.Fuzz()
