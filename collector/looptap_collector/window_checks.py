"""What a window of serving must look like. Its sketches come from strangers: each is decoded here, once, so that whoever reads it
later finds it as one that an agent has made."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any

import msgspec

from looptap.events import Example, Rejected, Window
from looptap.sketches import distribution, histogram
from looptap.sketches.sampling import EXAMPLE_BYTES, MOST_EXAMPLES
from looptap_collector.bounds import ID_BYTES, JOURNAL_BYTES, NAME_BYTES, finite, is_sha256, plain, text, whole

#: Streams of one kind, classes of errors, shapes, …
PARTS = 256
SKETCH_BYTES = 64 << 10
WINDOW_BYTES = 256 << 10
#: So that sums of a whole store stay within 63 bits.
MOST_REQUESTS = 1 << 40
_DAY_SECONDS = 86_400.0


def check_window(record: Window) -> None:
    """Raises :class:`Rejected`."""
    text("model of a window", record.model, NAME_BYTES, at_least=0, field="model")
    what = f"window of {record.model!r}"
    if record.version is not None:
        text(f"version in a {what}", record.version, JOURNAL_BYTES, field="version")
    for name in ("digest", "weights"):
        if (known := getattr(record, name)) is not None and not is_sha256(known):
            raise Rejected(f"the {name} in a {what} is no SHA-256 in hex", field=name)
    text(f"endpoint in a {what}", record.endpoint, NAME_BYTES, at_least=0, field="endpoint")
    if record.split is not None:
        text(f"split in a {what}", record.split, ID_BYTES, field="split")
    whole("time_ns", record.time_ns)
    finite(f"seconds of a {what}", record.seconds, at_least=0.0, field="seconds")
    if record.seconds > _DAY_SECONDS:
        raise Rejected(f"a {what} is {record.seconds:g} s long; a day is allowed", field="seconds")
    _count(what, "requests", record.requests)
    finite(f"in_flight of a {what}", record.in_flight, at_least=0.0, field="in_flight")
    _count(what, "in_flight_max", record.in_flight_max)
    for name in ("errors", "shapes", "skipped"):
        for count in _parts(what, name, getattr(record, name)).values():
            _count(what, name, count)
    if sum(record.errors.values()) > MOST_REQUESTS:
        raise Rejected(f"a {what} has more errors than can be", field="errors")
    for number in _parts(what, "resources", record.resources).values():
        if type(number) is not float:
            raise Rejected(f"resources of a {what} have a {type(number).__name__}, not a float", field="resources")
    if record.windows != 1 or record.peaks:
        raise Rejected(f"a {what} is told as one of many; only a store makes such", field="windows")
    for sketch in _parts(what, "latency", record.latency).values():
        _sketch(what, "latency", sketch, histogram.told)
    if record.batch is not None:
        _sketch(what, "batch", record.batch, histogram.told)
    for name in ("predictions", "outcomes", "labels", "features"):
        for sketch in _parts(what, name, getattr(record, name)).values():
            _sketch(what, name, sketch, distribution.decode)
    if len(record.examples) > MOST_EXAMPLES:
        raise Rejected(f"a {what} has {len(record.examples)} examples; {MOST_EXAMPLES} are allowed", field="examples")
    for example in record.examples:
        try:
            _example(f"an example of a {what}", example)
        except Rejected as refusal:
            refusal.field = "examples"
            raise
    if (size := len(msgspec.msgpack.encode(record))) > WINDOW_BYTES:
        raise Rejected(f"a {what} takes {size} bytes; {WINDOW_BYTES} are allowed")


def _example(what: str, example: Example) -> None:
    finite(f"draw of {what}", example.draw, at_least=0.0, field="draw")
    whole(f"time_ns of {what}", example.time_ns)
    if type(example.asked) is not dict:
        raise Rejected(f"asked of {what} is {type(example.asked).__name__}, not a dict")
    for name in ("asked", "answer"):
        plain(f"{name} of {what}", getattr(example, name))
    for told in (*example.ids, *(() if example.error is None else (example.error,))):
        text(f"error or id of {what}", told, NAME_BYTES, at_least=0)
    try:
        msgspec.msgpack.encode(example)
        size = len(msgspec.json.encode(example))
    except OverflowError as error:  # agents write such numbers as text
        raise Rejected(f"{what} has a whole number of more than 64 bits") from error
    if size > EXAMPLE_BYTES:
        raise Rejected(f"{what} takes {size} bytes as JSON; {EXAMPLE_BYTES} are allowed")


def _parts(what: str, name: str, parts: Any) -> dict[str, Any]:
    if type(parts) is not dict or len(parts) > PARTS:
        raise Rejected(f"{name} of a {what} are no dict of at most {PARTS}", field=name)
    for part in parts:
        text(f"a name in {name} of a {what}", part, NAME_BYTES, at_least=0, field=name)
    return parts


def _count(what: str, name: str, count: Any, field: str | None = None) -> None:
    whole(f"{name} of a {what}", count, at_least=0, field=field or name)
    if count > MOST_REQUESTS:
        raise Rejected(f"{name} of a {what}: {count} are more than can be", field=field or name)


def _sketch(what: str, name: str, encoded: Any, decode: Callable[[bytes], Sized]) -> None:
    if type(encoded) is not bytes or len(encoded) > SKETCH_BYTES:
        raise Rejected(f"{name} of a {what} has a sketch that is not at most {SKETCH_BYTES} bytes", field=name)
    try:
        values = len(decode(encoded))
    except (ValueError, RecursionError) as error:
        raise Rejected(f"{name} of a {what} has a sketch that cannot be read: {error}", field=name) from error
    _count(what, f"values in {name}", values, field=name)
