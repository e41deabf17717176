"""The tables of a store in SQL, the same on every engine.

Text that came from a run is only ever data here. A context is kept as JSON with sorted keys, so that equal
contexts are equal text. Doubles of a series' summary are kept twice: to the bit in an :class:`ExactDouble`,
and as a plain number in a ``_real`` column for people who read the file with another tool (null where the
value is not finite).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    BindParameter,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    bindparam,
    event,
    text,
)
from sqlalchemy.types import TypeDecorator

from looptap_collector.backends.types import Blob, Document, Name
from looptap_collector.doubles import double, exact


class ExactDouble(TypeDecorator[float]):
    """A double as :func:`looptap_collector.doubles.exact` says it: no engine rounds it or makes it null."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Any) -> int | None:
        return None if value is None else exact(value)

    def process_result_value(self, value: int | None, dialect: Any) -> float | None:
        return None if value is None else double(value)


def names(parameter: str) -> BindParameter[Any]:
    """For ``column.in_(…)`` in a statement that is built once and run with lists of any length."""
    return bindparam(parameter, expanding=True)


metadata = MetaData()

# SQLite numbers rows by itself only where the type is spelled INTEGER.
_Id = BigInteger().with_variant(Integer, "sqlite")
_RunId = Name(64)

experiment = Table(
    "experiment",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Name(512), nullable=False, unique=True),
)

run = Table(
    "run",
    metadata,
    Column("run", _RunId, primary_key=True),
    Column("experiment_id", _Id, ForeignKey("experiment.id"), nullable=False),
    Column("name", Name(512), nullable=False),
    Column("kind", Name(64), nullable=False),
    Column("status", Name(16), nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),
    Column("heartbeat_ns", BigInteger),
    Column("error", Document),
    # 1 once the run has told its own end; what others conclude about it no longer counts then.
    Column("told_end", Integer, nullable=False),
    Column("identity", Document, nullable=False),
    Column("environment", Document),
    # The name of the token that started it; null for a run of an embedded store. Others cannot append to it.
    Column("owner", Name(255)),
    Index("run_by_start", "started_ns"),
    Index("run_by_experiment", "experiment_id", "started_ns"),
)

param = Table(
    "param",
    metadata,
    Column("run", _RunId, ForeignKey("run.run"), primary_key=True),
    Column("key", Name(512), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("value", Document, nullable=False),
    Column("source", Name(64), nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    # What a filter compares: the value where it is a finite number (true and false are none), and 1 in the newest revision.
    Column("number", Double),
    Column("is_current", Integer, nullable=False, server_default="1"),
    Index("param_by_key", "key", "number"),
)

tag = Table(
    "tag",
    metadata,
    Column("run", _RunId, ForeignKey("run.run"), primary_key=True),
    Column("key", Name(512), primary_key=True),
    Column("value", Document, nullable=False),
    Column("time_ns", BigInteger, nullable=False),
)

series = Table(
    "series",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run", _RunId, ForeignKey("run.run"), nullable=False),
    Column("key", Name(512), nullable=False),
    Column("context", Name(2048), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("nan_count", BigInteger, nullable=False),
    Column("last", ExactDouble, nullable=False),
    Column("min", ExactDouble),
    Column("max", ExactDouble),
    Column("last_real", Double),
    Column("min_real", Double),
    Column("max_real", Double),
    Column("first_step", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("last_time_ns", BigInteger, nullable=False),
    # Full chunks come first; parts from tail_part up to next_part are small and still to be merged.
    Column("next_part", Integer, nullable=False),
    Column("tail_part", Integer, nullable=False),
    Column("tail_points", Integer, nullable=False),
    # A long context does not fit into an index of every engine. Where the engine cannot tell, two rows of one series are
    # kept out by the lock of the run.
    UniqueConstraint("run", "key", "context").ddl_if(dialect="sqlite"),
    Index("series_by_name", "run", "key", text("md5(context)"), unique=True).ddl_if(dialect="postgresql"),
    Index("series_by_run", "run", "key").ddl_if(dialect="mysql"),
    Index("series_by_last", "key", "last_real"),
)

chunk = Table(
    "chunk",
    metadata,
    Column("series_id", _Id, ForeignKey("series.id"), primary_key=True, autoincrement=False),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("nan_count", Integer, nullable=False),
    Column("min", ExactDouble),
    Column("max", ExactDouble),
    Column("first_step", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("data", Blob, nullable=False),
)

# A long chunk in few points, for charts; see decision 0012. In a table of its own: a row is read as a whole.
outline = Table(
    "outline",
    metadata,
    Column("series_id", _Id, ForeignKey("series.id"), primary_key=True, autoincrement=False),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("data", Blob, nullable=False),
)

artifact = Table(
    "artifact",
    metadata,
    Column("digest", Name(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("media_type", Name(255), nullable=False),
)

lineage = Table(
    "lineage",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run", _RunId, ForeignKey("run.run"), nullable=False),
    # Null where the content could not be had; `missing` then says why.
    Column("digest", Name(64), ForeignKey("artifact.digest")),
    Column("missing", Document),
    Column("role", Name(64), nullable=False),
    Column("name", Document, nullable=False),
    Column("path", Document),
    Column("kind", Name(64)),
    Column("media_type", Name(255), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("step", BigInteger),
    Column("description", Document),
    Column("time_ns", BigInteger, nullable=False),
    # The fingerprint of the largest model in the file, where it can be told.
    Column("weights", Name(64)),
    Index("lineage_by_run", "run"),
    Index("lineage_by_artifact", "digest"),
    Index("lineage_by_weights", "weights"),
)

dataset = Table("dataset", metadata, Column("name", Name(512), primary_key=True))

# What is identified, and as far as that goes. The version is the SHA-256 of all of it, so that every store gives it the same.
dataset_version = Table(
    "dataset_version",
    metadata,
    Column("version", Name(64), primary_key=True),
    Column("name", Name(512), ForeignKey("dataset.name"), nullable=False),
    Column("fingerprint", Name(255), nullable=False),
    Column("algorithm", Name(64), nullable=False),
    Column("covers", Name(255), nullable=False),
    Index("dataset_version_by_name", "name"),
    Index("dataset_version_by_fingerprint", "fingerprint"),
)

run_dataset = Table(
    "run_dataset",
    metadata,
    Column("run", _RunId, ForeignKey("run.run"), primary_key=True),
    Column("role", Name(64), primary_key=True),
    Column("name", Name(512), ForeignKey("dataset.name"), primary_key=True),
    # Null where there is no fingerprint (yet).
    Column("version", Name(64), ForeignKey("dataset_version.version")),
    Column("time_ns", BigInteger, nullable=False),
    # The record as the run told it.
    Column("told", Document, nullable=False),
    Index("run_dataset_by_version", "version"),
    Index("run_dataset_by_name", "name"),
)

alert = Table(
    "alert",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run", _RunId, ForeignKey("run.run"), nullable=False),
    Column("kind", Name(64), nullable=False),
    Column("severity", Name(16), nullable=False),
    Column("state", Name(16), nullable=False),
    Column("message", Document, nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("key", Name(512)),
    Column("value", ExactDouble),
    Column("threshold", ExactDouble),
    Column("step", BigInteger),
    Column("rank", Integer, nullable=False),
    Index("alert_by_run", "run"),
    Index("alert_by_time", "time_ns"),
)

# What models answered in some seconds. Named by the SHA-256 of what tells it from all others, some of which may be null.
serving_window = Table(
    "serving_window",
    metadata,
    Column("digest", Name(64), primary_key=True),
    Column("run", _RunId, ForeignKey("run.run"), nullable=False),
    Column("journal", Name(255), nullable=False),
    Column("model", Name(512), nullable=False),
    Column("version", Name(255)),
    Column("endpoint", Name(512), nullable=False),
    # Null while it is served; of an evaluation, which data it was.
    Column("split", Name(64)),
    Column("time_ns", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    # The record, in MessagePack.
    Column("told", Blob, nullable=False),
    # Seconds of the stretch of time whose windows it was made of; 0 as long as it is as it was told.
    Column("stretch", Integer, nullable=False, server_default="0"),
    Index("serving_window_of_run", "run", "time_ns"),
    Index("serving_window_by_stretch", "stretch", "time_ns"),
    Index("serving_window_by_model", "model", "time_ns"),
    Index("serving_window_by_version", "version", "time_ns"),
    Index("serving_window_by_time", "time_ns"),
)

note = Table(
    "note",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run", _RunId, ForeignKey("run.run"), nullable=False),
    Column("topic", Name(512), nullable=False),
    Column("message", Document, nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Index("note_by_run", "run"),
)

ledger = Table(
    "ledger",
    metadata,
    Column("journal", Name(255), primary_key=True),
    Column("run", _RunId, ForeignKey("run.run"), nullable=False),
    Column("next", BigInteger, nullable=False),
    Column("stored", BigInteger, nullable=False),
    Column("dropped", Document, nullable=False),
    # Of the last batch: its first number and the SHA-256 of its records, to tell a copy from a contradiction.
    Column("first", BigInteger),
    Column("digest", Name(64)),
    # Which process of the run's job it is of, and what that one told of its end.
    Column("rank", Integer, nullable=False, server_default="0"),
    Column("status", Name(16)),
    Column("ended_ns", BigInteger),
    Column("error", Document),
    Index("ledger_by_run", "run"),
)

# Who may ask a collector. Only the SHA-256 of a token is kept.
token = Table(
    "token",
    metadata,
    Column("id", Name(16), primary_key=True),
    Column("name", Name(255), nullable=False),
    Column("scope", Name(16), nullable=False),
    Column("hash", Name(64), nullable=False, unique=True),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger),
    Column("revoked_ns", BigInteger),
    Column("last_used_ns", BigInteger),
)

#: What to query with other tools. ``last_kind`` tells what a null in ``last`` stands for.
RUN_METRICS = f"""
CREATE VIEW run_metrics AS
SELECT run.run AS run, run.name AS run_name, experiment.name AS experiment, run.status AS status,
       series."key" AS "key", series.context AS context,
       series.count AS count, series.nan_count AS nan_count,
       series.last_real AS last,
       CASE WHEN series.last > {exact(float("inf"))} THEN 'nan'
            WHEN series.last = {exact(float("inf"))} THEN 'inf'
            WHEN series.last = {exact(float("-inf"))} THEN '-inf'
            ELSE 'finite' END AS last_kind,
       series.min_real AS min, series.max_real AS max,
       series.first_step AS first_step, series.last_step AS last_step, series.last_time_ns AS last_time_ns
FROM series JOIN run ON run.run = series.run JOIN experiment ON experiment.id = run.experiment_id
""".strip()

event.listen(metadata, "after_create", DDL(RUN_METRICS))  # type: ignore[no-untyped-call]
