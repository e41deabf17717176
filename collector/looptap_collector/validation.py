"""What a batch must look like before any backend sees it.

Limits are for records that no sensible program makes; the agent shortens what it records long before. A batch
that breaks one would break it again, so the answer is always :class:`Rejected`, never "not now".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from looptap.events import (
    ALERT_SEVERITIES,
    ALERT_STATES,
    RUN_STATUSES,
    Alert,
    Artifact,
    Batch,
    Context,
    Dataset,
    Environment,
    Note,
    Param,
    Rejected,
    RunEnded,
    RunStarted,
    SeriesPoints,
    Tag,
    Window,
)
from looptap_collector.backends.summaries import columns_of, context_text
from looptap_collector.bounds import (
    ID_BYTES,
    JOURNAL_BYTES,
    NAME_BYTES,
    VALUE_BYTES,
    is_sha256,
    plain,
    text,
    whole,
)
from looptap_collector.window_checks import check_window

#: Beside points. The agent cuts a batch that is refused, so nothing is lost by a limit here.
RECORDS = 10_000
SERIES = 10_000
#: The agent knows a handful.
DROP_REASONS = 64
CONTEXT_ITEMS = 16
CONTEXT_CHARACTERS = 2_048
#: Of an alert: a record of a run tells thousands of them.
MESSAGE_BYTES = 4_096
#: Processes of one job.
RANKS = 1 << 31
DOCUMENT_BYTES = 1 << 20


def check(batch: Batch) -> None:
    """Raises :class:`Rejected` with the first thing that is wrong, in one line; ``field`` tells where it is."""
    text("run", batch.run, ID_BYTES, field="run")
    text("journal", batch.journal, JOURNAL_BYTES, field="journal")
    for name in ("first", "next", "heartbeat_ns"):
        whole(name, getattr(batch, name), at_least=0)
    for what, count, most in (("records", len(batch.records), RECORDS), ("series", len(batch.series), SERIES)):
        if count > most:
            raise Rejected(f"a batch has {count} {what}; {most} are allowed")
    if batch.count() > batch.next - batch.first:
        raise Rejected(
            f"journal {batch.journal!r}: {batch.count()} records do not fit the numbers "
            f"{batch.first} to {batch.next - 1}",
            field="next",
        )
    if len(batch.dropped) > DROP_REASONS:
        raise Rejected(f"drops have {len(batch.dropped)} reasons; {DROP_REASONS} are allowed", field="dropped")
    for reason, total in batch.dropped.items():
        text("reason of a drop", reason, NAME_BYTES, field="dropped")
        whole(f"dropped ({reason})", total, at_least=0, field="dropped")
    _check_each("series", batch.series, _series)
    _check_each("records", batch.records, _record)


def _check_each(field: str, items: Sequence[Any], check_one: Callable[[Any], None]) -> None:
    number = 0
    try:
        for number, item in enumerate(items):  # noqa: B007
            check_one(item)
    except Rejected as refusal:
        place = f"{field}[{number}]"
        refusal.field = f"{place}.{refusal.field}" if refusal.field else place
        raise


def _series(points: SeriesPoints) -> None:
    text("metric name", points.key, NAME_BYTES, field="key")
    _context(points.context)
    columns_of(points)


def _record(record: Any) -> None:
    if type(record) not in _CHECKS:
        raise Rejected(f"a batch cannot carry a {type(record).__name__}")
    _CHECKS[type(record)](record)


def _run_started(record: RunStarted) -> None:
    text("run", record.run, ID_BYTES, field="run")
    text("run name", record.name, NAME_BYTES, field="name")
    text("experiment name", record.experiment, NAME_BYTES, field="experiment")
    text("kind of run", record.kind, ID_BYTES, field="kind")
    whole("time_ns", record.time_ns)
    _rank(record.rank)
    whole("world_size", record.world_size, at_least=1)
    _document(record)


def _environment(record: Environment) -> None:
    whole("time_ns", record.time_ns)
    _document(record)


def _param(record: Param) -> None:
    text("param name", record.key, NAME_BYTES, field="key")
    text(f"source of param {record.key!r}", record.source, ID_BYTES, field="source")
    whole("time_ns", record.time_ns)
    try:
        plain(f"param {record.key!r}", record.value)
    except Rejected as refusal:
        refusal.field = "value"
        raise


def _tag(record: Tag) -> None:
    text("tag name", record.key, NAME_BYTES, field="key")
    text(f"tag {record.key!r}", record.value, VALUE_BYTES, at_least=0, field="value")
    whole("time_ns", record.time_ns)


def _artifact(record: Artifact) -> None:
    text("artifact name", record.name, VALUE_BYTES, field="name")
    text("role of an artifact", record.role, ID_BYTES, field="role")
    if record.kind is not None:
        text("kind of an artifact", record.kind, ID_BYTES, field="kind")
    for name in ("path", "description", "missing"):
        if (optional := getattr(record, name)) is not None:
            text(f"artifact {record.name!r}", optional, VALUE_BYTES, at_least=0, field=name)
    text("media type", record.media_type, JOURNAL_BYTES, field="media_type")
    whole("size_bytes", record.size_bytes, at_least=0)
    whole("time_ns", record.time_ns)
    if record.step is not None:
        whole("step", record.step)
    if (record.digest is None) == (record.missing is None):
        raise Rejected(f"artifact {record.name!r} needs a digest or the reason why it is missing", field="digest")
    if record.digest is not None and not is_sha256(record.digest):
        raise Rejected(f"artifact {record.name!r}: {record.digest[:80]!r} is not a SHA-256 in hex", field="digest")
    if record.weights is not None and not is_sha256(record.weights):
        raise Rejected(f"artifact {record.name!r}: {record.weights[:80]!r} is not a SHA-256 in hex", field="weights")


def _dataset(record: Dataset) -> None:
    text("dataset name", record.name, NAME_BYTES, field="name")
    text("role of a dataset", record.role, ID_BYTES, field="role")
    what = f"dataset {record.name!r}"
    for name in ("kind", "algorithm"):
        if (optional := getattr(record, name)) is not None:
            text(f"{name} of {what}", optional, ID_BYTES, field=name)
    for name in ("class_name", "split", "root", "transform", "missing"):
        if (optional := getattr(record, name)) is not None:
            text(what, optional, VALUE_BYTES, at_least=0, field=name)
    for name in ("fingerprint", "covers"):
        if (optional := getattr(record, name)) is not None:
            text(f"{name} of {what}", optional, JOURNAL_BYTES, field=name)
    if record.fingerprint is not None and (record.algorithm is None or record.covers is None):
        raise Rejected(f"{what} has a fingerprint and does not tell of what", field="covers")
    if record.length is not None:
        whole("length", record.length, at_least=0)
    whole("time_ns", record.time_ns)
    for name in ("schema", "details"):
        try:
            plain(f"{name} of {what}", getattr(record, name))
        except Rejected as refusal:
            refusal.field = name
            raise
    if type(record.details) is not dict:
        raise Rejected(f"details of {what} are {type(record.details).__name__}, not a dict", field="details")


def _alert(record: Alert) -> None:
    text("kind of an alert", record.kind, ID_BYTES, field="kind")
    what = f"alert {record.kind!r}"
    for name, known in (("severity", ALERT_SEVERITIES), ("state", ALERT_STATES)):
        if (told := getattr(record, name)) not in known:
            raise Rejected(f"{told!r} is not a {name} of an alert (known: {', '.join(known)})", field=name)
    text(f"message of {what}", record.message, MESSAGE_BYTES, at_least=0, field="message")
    if record.key is not None:
        text(f"metric of {what}", record.key, NAME_BYTES, field="key")
    for name in ("value", "threshold"):
        if type(number := getattr(record, name)) is not float and number is not None:
            raise Rejected(f"{name} of {what} is {type(number).__name__}, not a float", field=name)
    if record.step is not None:
        whole("step", record.step)
    whole("time_ns", record.time_ns)
    _rank(record.rank)


def _note(record: Note) -> None:
    text("topic of a note", record.topic, NAME_BYTES, field="topic")
    text(f"note {record.topic!r}", record.message, VALUE_BYTES, at_least=0, field="message")
    whole("time_ns", record.time_ns)


def _run_ended(record: RunEnded) -> None:
    if record.status not in RUN_STATUSES:
        raise Rejected(f"{record.status!r} is not a status of a run (known: {', '.join(RUN_STATUSES)})", field="status")
    if record.error is not None:
        text("error", record.error, VALUE_BYTES, at_least=0, field="error")
    whole("time_ns", record.time_ns)
    _rank(record.rank)


def _rank(rank: Any) -> None:
    whole("rank", rank, at_least=0)
    if rank >= RANKS:
        raise Rejected(f"rank {rank} is beyond {RANKS - 1}", field="rank")


_CHECKS: dict[type, Any] = {
    RunStarted: _run_started,
    Environment: _environment,
    Param: _param,
    Tag: _tag,
    Artifact: _artifact,
    Dataset: _dataset,
    Alert: _alert,
    Window: check_window,
    Note: _note,
    RunEnded: _run_ended,
}


def _context(context: Context) -> None:
    if len(context) > CONTEXT_ITEMS:
        raise Rejected(f"a context has {len(context)} items; {CONTEXT_ITEMS} are allowed", field="context")
    for key, value in context.items():
        text("context name", key, NAME_BYTES, field="context")
        text(f"context {key!r}", value, NAME_BYTES, at_least=0, field="context")
    if context and (size := len(context_text(context))) > CONTEXT_CHARACTERS:
        raise Rejected(f"a context takes {size} characters as JSON; {CONTEXT_CHARACTERS} are allowed", field="context")


def _document(record: RunStarted | Environment) -> None:
    """Kept as JSON in one piece, so it must survive being written and read."""
    what = type(record).__name__
    try:
        written = msgspec.json.encode(record)
        msgspec.json.decode(written, type=type(record))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Rejected(f"{what} is not as declared: {error}") from error
    if len(written) > DOCUMENT_BYTES:
        raise Rejected(f"{what} takes {len(written)} bytes; {DOCUMENT_BYTES} are allowed")
