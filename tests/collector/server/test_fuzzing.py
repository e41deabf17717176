"""Bodies made up by hypothesis: whatever comes in, the answer is a refusal or it is stored, and the store stays in order."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from looptap.events import (
    Alert,
    Artifact,
    Batch,
    Dataset,
    Environment,
    Example,
    Note,
    Param,
    RunEnded,
    SeriesPoints,
    Tag,
    Window,
)
from looptap_collector import exact
from looptap_collector.backend import Arrival, Outcome, Rejected
from looptap_collector.backends.checking import check
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.pipeline import Pipeline
from looptap_collector.record import run_record, to_json
from looptap_collector.server import intake
from looptap_collector.server.errors import Refusal
from looptap_collector.server.inflate import inflate
from looptap_collector.testing.batches import Journal, points, started
from looptap_collector.testing.contracts.windows import full

LIMIT = 1 << 16
FUZZED = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))

texts = st.one_of(
    st.sampled_from(["r1", "r2", "j1", "loss", ""]), st.text(max_size=8), st.just("\0"), st.just("x" * 600)
)
words = st.one_of(st.sampled_from([0, 1, 2, 3, -1, 2**63 - 1, -(2**63)]), st.integers(-(2**63), 2**63 - 1))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
columns = st.one_of(
    st.binary(max_size=20), st.lists(words, max_size=3).map(lambda items: np.array(items, "<i8").tobytes())
)
sketches = st.one_of(st.binary(max_size=20), st.sampled_from([full().latency["total"], full().features["age"]]))
records = st.one_of(
    st.builds(started, texts, name=texts, experiment=texts, time_ns=words),
    st.builds(Environment, words, git_commit=st.none() | texts, packages=st.dictionaries(texts, texts, max_size=2)),
    st.builds(Param, texts, plain, texts, words),
    st.builds(Tag, texts, texts, words),
    st.builds(Artifact, texts, words, words, digest=st.none() | st.just("ab" * 32) | texts, missing=st.none() | texts),
    st.builds(
        Dataset,
        texts,
        words,
        texts,
        length=st.none() | words,
        root=st.none() | texts,
        fingerprint=st.none() | texts,
        algorithm=st.none() | texts,
        covers=st.none() | texts,
        schema=plain,
        details=st.dictionaries(texts, plain, max_size=2),
    ),
    st.builds(
        Alert,
        texts,
        st.just("warning") | texts,
        st.just("fired") | texts,
        texts,
        words,
        key=st.none() | texts,
        value=st.none() | st.floats(),
        step=st.none() | words,
        rank=words,
    ),
    st.builds(
        Window,
        texts,
        words,
        st.floats(),
        version=st.none() | texts,
        endpoint=texts,
        split=st.none() | texts,
        requests=words,
        errors=st.dictionaries(texts, words, max_size=2),
        latency=st.dictionaries(texts, sketches, max_size=2),
        batch=st.none() | sketches,
        predictions=st.dictionaries(texts, sketches, max_size=2),
        resources=st.dictionaries(texts, st.floats(), max_size=2),
        examples=st.lists(
            st.builds(
                Example,
                st.floats(),
                words,
                st.dictionaries(texts, plain, max_size=2),
                plain,
                st.none() | texts,
                st.lists(texts, max_size=2).map(tuple),
            ),
            max_size=2,
        ).map(tuple),
    ),
    st.builds(Note, texts, texts, words),
    st.builds(RunEnded, st.sampled_from(["finished", "failed", "running", "odd"]), words, st.none() | texts),
)
#: Of the right structure, and odd in all else.
batches = st.builds(
    Batch,
    run=texts,
    journal=texts,
    first=words,
    next=words,
    series=st.lists(
        st.builds(SeriesPoints, texts, st.dictionaries(texts, texts, max_size=2), columns, columns, columns), max_size=3
    ).map(tuple),
    records=st.lists(records, max_size=3).map(tuple),
    dropped=st.dictionaries(texts, words, max_size=2),
    heartbeat_ns=words,
)
GOOD = msgspec.msgpack.encode(
    Journal().batch(started(), Param("lr", [1, {"a": 0.5}], "user", 2), series=[points("loss", [1, 2], [0.5, 0.25])])
)


@st.composite
def mutated(draw: st.DrawFn, good: bytes = GOOD) -> bytes:
    """Good bytes with a few of them changed, taken out, doubled or cut off."""
    body = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(body) - 1)))
        how = draw(st.sampled_from(["set", "flip", "out", "in", "cut"]))
        if how == "set":
            body[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif how == "flip" and body:
            body[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "out":
            del body[at : at + draw(st.integers(1, 8))]
        elif how == "in":
            body[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            del body[at:]
    return bytes(body)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteBackend]:
    """One store for all: what got in before is there when the next one comes."""
    backend = SqliteBackend(tmp_path_factory.mktemp("fuzz") / "looptap.db")
    yield backend
    assert list(check(backend)) == []
    backend.close()


def tried(work: Callable[..., Any], *arguments: Any) -> Any:
    """What comes of it, or the refusal, which is the only error there may be."""
    try:
        return work(*arguments)
    except (Refusal, Rejected) as refusal:
        return refusal


def assert_taken(store: SqliteBackend, batch: Batch) -> None:
    """Refused or stored; then the ledger is where the batch says, and the record can be read."""
    (outcome,) = Pipeline(store).accept_all([Arrival(batch, "somebody")])
    if isinstance(outcome, Rejected):
        assert len(str(outcome).splitlines()) == 1
    elif outcome is Outcome.STORED:
        assert store.position(batch.journal) == batch.next
    if (row := store.run(batch.run)) is not None:
        to_json(run_record(store, row))


@FUZZED
@given(body=st.binary(max_size=200) | mutated())
def test_bytes_that_may_be_a_batch(store: SqliteBackend, body: bytes) -> None:
    """Any bytes, and good ones with damage: a refusal that names what is wrong in one line, or a batch that is checked and
    stored like any other."""
    batch = tried(intake._batch, body)
    if isinstance(batch, Refusal):
        assert batch.status in (400, 422)
        assert len(batch.message) < 500
    else:
        assert_taken(store, batch)


@FUZZED
@given(batch=batches)
def test_batches_of_the_right_structure(store: SqliteBackend, batch: Batch) -> None:
    """Odd numbers, names, columns and records in the right places: refused or stored, never an error, over the wire too."""
    try:
        body = msgspec.msgpack.encode(batch)
    except UnicodeEncodeError:
        return
    assert_taken(store, intake._batch(body))


@FUZZED
@given(group=st.lists(batches | mutated(), min_size=2, max_size=5))
def test_groups_of_batches(store: SqliteBackend, group: list[Any]) -> None:
    """In one commit with others, each batch has its own answer, in its place."""
    found = [tried(intake._batch, item) if isinstance(item, bytes) else item for item in group]
    arrivals = [Arrival(batch, "somebody") for batch in found if isinstance(batch, Batch)]
    answers = Pipeline(store).accept_all(arrivals)
    assert len(answers) == len(arrivals)
    assert all(isinstance(answer, Outcome | Rejected) for answer in answers)


@FUZZED
@given(body=st.binary(max_size=300), encoding=st.sampled_from(["gzip", "zstd", "identity", "", "br", "gzip, gzip"]))
def test_bodies_that_are_not_compressed_at_all(body: bytes, encoding: str) -> None:
    """Any bytes under any encoding: a refusal, or bytes that are not longer than agreed."""
    found = tried(inflate, body, encoding, LIMIT)
    assert found.status in (400, 413, 415) if isinstance(found, Refusal) else len(found) <= LIMIT


@FUZZED
@given(data=st.data(), size=st.integers(0, 2 * LIMIT))
def test_damaged_compressed_bodies(data: st.DataObject, size: int) -> None:
    """Compressed bytes with damage: a refusal, or bytes that are not longer than agreed; without damage, themselves."""
    content = bytes(size)
    for encoding, body in (("gzip", gzip.compress(content)), ("zstd", zstandard.ZstdCompressor().compress(content))):
        found = tried(inflate, body, encoding, LIMIT)
        assert found.status == 413 if size > LIMIT else found == content
        found = tried(inflate, data.draw(mutated(body)), encoding, LIMIT)
        assert found.status in (400, 413) if isinstance(found, Refusal) else len(found) <= LIMIT


@FUZZED
@given(value=plain | st.integers() | st.dictionaries(texts, st.integers(), max_size=3))
def test_answers_in_messagepack_lose_nothing(value: Any) -> None:
    """What an answer holds comes back as it was, whole numbers of any size among it."""
    told = exact.encode(value)
    assert exact.encode(exact.decode(told, Any)) == told
    if isinstance(value, int):
        assert exact.decode(told, object) == value


@FUZZED
@given(body=st.binary(max_size=200) | mutated())
def test_answers_that_are_none(body: bytes) -> None:
    """A reader that gets any bytes for an answer has one kind of error."""
    try:
        exact.decode(body, Any)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
