"""Bodies that mean harm; the numbers are those of hostile-inputs.md."""

from __future__ import annotations

import gzip
import math
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import psutil
import pytest
import zstandard

from collector.server.collectors import MEDIA_TYPE, Collector, body_of, server_process
from looptap.events import Artifact, Batch, Param, SeriesPoints, Tag
from looptap_collector.backends import appending
from looptap_collector.backends.sqlite import SqliteBackend
from looptap_collector.testing.batches import Journal, points, started
from programs import Programs

HEAD = {"run": "r1", "journal": "j1", "first": 0, "next": 1}


def post(collector: Collector, body: bytes, encoding: str = "identity") -> httpx.Response:
    return collector.client("ingest").post(
        "/v1/batches", content=body, headers={"content-type": MEDIA_TYPE, "content-encoding": encoding}
    )


def gzip_bomb(plain_bytes: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    return b"".join(compressor.compress(block) for _ in range(plain_bytes >> 20)) + compressor.flush()


def zstd_bomb(plain_bytes: int) -> bytes:
    compressor = zstandard.ZstdCompressor(level=1).compressobj(size=plain_bytes)
    block = bytes(1 << 20)
    return b"".join(compressor.compress(block) for _ in range(plain_bytes >> 20)) + compressor.flush()


def test_12_bombs_are_refused_before_they_burst(tmp_path: Path) -> None:
    """A small body that becomes a gigabyte is 413, and the collector's memory hardly grows."""
    bombs = [
        (gzip_bomb(1 << 30), "gzip"),
        (zstd_bomb(1 << 30), "zstd"),
        (zlib.compress(bytes(1 << 20)), "deflate"),
        (gzip.compress(gzip_bomb(64 << 20)), "gzip"),
    ]
    with server_process(tmp_path) as running, httpx.Client(base_url=running.address, trust_env=False) as client:
        headers = {"authorization": f"Bearer {running.token}", "content-type": MEDIA_TYPE}
        process = psutil.Process(running.process.pid)
        client.post("/v1/batches", content=b"", headers=headers)
        before = process.memory_info().rss
        answers = [
            client.post("/v1/batches", content=body, headers={**headers, "content-encoding": encoding}).status_code
            for body, encoding in bombs
        ]
        assert answers == [413, 413, 415, 422]
        assert process.memory_info().rss - before < 64 << 20


def test_12_a_frame_that_lies_about_its_size(collector: Collector) -> None:
    """A zstd frame that says nothing of its size, or too little, is 400; one that claims too much is 413."""
    compressor = zstandard.ZstdCompressor(level=1, write_content_size=False)
    assert post(collector, compressor.compress(b"x" * 100), "zstd").status_code == 400
    honest = zstandard.ZstdCompressor(level=1).compress(bytes(200))
    assert honest[5] == 200
    assert post(collector, honest[:5] + b"\x10" + honest[6:], "zstd").status_code == 400
    window = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", 0xFFFFFFF0) + b"\x01\x00\x00"
    assert post(collector, window, "zstd").status_code == 413


#: A param up to its value, in MessagePack.
_PARAM = b"\xa7records\x91\x85\xa4type\xa5param\xa3key\xa1k\xa6source\xa1s\xa7time_ns\x01\xa5value"


@pytest.mark.parametrize(
    ("tail", "status"),
    [
        (b"\xa6series\xdd\xff\xff\xff\xff", 400),
        (b"\xa7records\xdd\x7f\xff\xff\xff", 400),
        (b"\xa7dropped\xdf\xff\xff\xff\xff", 400),
        (b"\xa7dropped\xdb\xff\xff\xff\xff", 400),
        (b"\xa6series\x91\x95\xa1x\x80\xc6\xff\xff\xff\xff", 400),
        (b"\xa6series\xc7\xff\x01", 400),
        (b"\xa7records" + b"\x91" * 100_000, 422),
        (_PARAM + b"\x91" * 100_000 + b"\x01", 400),
        (_PARAM + b"\xdd\xff\xff\xff\xff", 400),
        (b"\xa7unknown" + b"\x81\xa1a" * 100_000 + b"\x01", 400),
        (_PARAM + b"\xd6\xff\x00\x00\x00\x00", 422),
    ],
)
def test_15_lengths_and_depths_that_are_not_there(collector: Collector, tail: bytes, status: int) -> None:
    """Claims of gigabytes, nesting of a hundred thousand, extension types: refused, nothing allocated, others served."""
    before = psutil.Process().memory_info().rss
    body = b"\x85" + msgspec.msgpack.encode(HEAD)[1:] + tail
    assert post(collector, body).status_code == status
    assert psutil.Process().memory_info().rss - before < 64 << 20
    assert collector.client("read").get("/healthz").status_code == 200


def test_16_strange_numbers_are_kept_and_told(collector: Collector) -> None:
    """NaN, infinities and the negative zero are values; JSON has them as text, and is valid."""
    values = [math.nan, math.inf, -math.inf, -0.0, 1e308]
    param_values = {"nan": math.nan, "big": 2**64 - 1, "bool": True, "text": "NaN", "one": 1, "real": 1.0}
    records = [started(), *(Param(key, value, "user", 1) for key, value in param_values.items())]
    assert collector.send(Journal().batch(*records, series=[points("loss", range(5), values)])).status_code == 200
    client = collector.client("read")
    (history,) = client.get("/v1/histories", params={"run": "r1", "key": "loss"}).json()["histories"]
    assert [str(value) for value in history["values"]] == ["NaN", "Infinity", "-Infinity", "-0.0", "1e+308"]
    told = client.get("/v1/runs/r1").json()["params"]
    assert {key: item["value"] for key, item in told.items()} == {**param_values, "nan": "NaN"}
    assert type(told["bool"]["value"]) is bool
    assert type(told["one"]["value"]) is int


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"first": "0"}, "first"),
        ({"next": None}, "next"),
        ({"run": 7}, "run"),
        ({"records": [{"type": "param", "key": 1}]}, "records[0].key"),
        ({"records": [{"type": "nonsense"}]}, "records[0].type"),
        ({"records": [{"key": "k"}]}, "records[0]"),
        ({"series": [["x", {}, b"", b""]]}, "series[0]"),
        ({"heartbeat_ns": 1.5}, "heartbeat_ns"),
        ({"dropped": {"a": "b"}}, "dropped[...]"),
    ],
)
def test_17_wrong_types_name_the_field(collector: Collector, change: dict[str, Any], field: str) -> None:
    """What is of another type, missing or unknown is 422, and the answer says which field it is."""
    answer = post(collector, msgspec.msgpack.encode({**HEAD, **change}))
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == field
    del_key = dict(HEAD)
    del del_key["next"]
    assert post(collector, msgspec.msgpack.encode(del_key)).status_code == 422


def test_17_unknown_fields_are_of_a_newer_agent(collector: Collector) -> None:
    """A field that this version does not know is left out, so that a newer agent can deliver to an older collector."""
    batch = msgspec.msgpack.decode(msgspec.msgpack.encode(Journal().batch(started())))
    assert post(collector, msgspec.msgpack.encode({**batch, "mood": "good"})).json() == {"outcome": "stored"}


def test_18_steps_and_times_of_any_size(collector: Collector) -> None:
    """Negative and extreme steps, times of 1601 and 2262: stored exactly, told exactly, and the record is still shown."""
    steps = np.array([-1, 2**63 - 1, -(2**63), 5])
    times = np.array([-11_644_473_600 * 10**9 % -(2**63), 2**63 - 1, -(2**63), 0])
    series = SeriesPoints("x", {}, steps.tobytes(), times.tobytes(), np.arange(4.0).tobytes())
    assert collector.send(Journal().batch(started(time_ns=-(2**63)), series=[series])).status_code == 200
    client = collector.client("read")
    (history,) = client.get("/v1/histories", params={"run": "r1", "key": "x", "points": 7}).json()["histories"]
    assert history["steps"] == sorted(steps.tolist())
    assert history["times_ns"] == times[np.argsort(steps)].tolist()
    assert client.get("/v1/runs/r1").json()["run"]["started_ns"] == -(2**63)


def test_19_too_many_names(collector: Collector) -> None:
    """A batch with more series than a program has is refused as a whole and says so; the collector goes on."""
    many = Journal().batch(started(), series=[points(f"m{number}", [1], [1.0]) for number in range(20_000)])
    answer = collector.send(many)
    assert answer.status_code == 422
    assert "series" in answer.json()["error"]["message"]
    assert collector.send(Journal().batch(started())).status_code == 200


def test_19_a_run_has_so_many_series(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """New metrics beyond the limit of a run are refused for good, and counted; points of the known ones still come in, in the
    same journal, and other runs are as free as before."""
    monkeypatch.setattr(appending, "SERIES_PER_RUN", 1_000)
    journal = Journal()
    assert collector.send(journal.batch(started(), series=named(range(900)))).status_code == 200
    refused = collector.send(journal.batch(series=named(range(899, 1_001))))
    assert refused.status_code == 422
    assert refused.json()["error"] == {
        "code": "too_many_series",
        "message": "run 'r1' would have more than 1000 series",
        "field": "series",
        "hint": None,
    }
    # What the refused batch carried is lost, and the journal goes on behind it.
    assert collector.send(journal.batch(series=named(range(1_000)))).status_code == 200
    assert collector.send(journal.batch(series=named([5, 1_000]))).status_code == 422
    assert collector.send(journal.batch(series=named([5]))).status_code == 200
    assert collector.send(Journal("j2", "r2").batch(started("r2"), series=named(range(1_000)))).status_code == 200
    assert len(collector.store.series(["r1", "r2"])) == 2_000
    told = collector.client("read").get("/metrics").text
    assert 'looptap_batches_rejected_total{reason="too_many_series"} 2.0' in told


def named(numbers: Iterable[int]) -> list[SeriesPoints]:
    return [points(f"m{number}", [1], [1.0]) for number in numbers]


def test_19_memory_does_not_grow_with_names(tmp_path: Path) -> None:
    """A hundred thousand names are taken, the rest of a million are not, and the collector stays small."""
    with server_process(tmp_path) as running, httpx.Client(base_url=running.address, trust_env=False) as client:
        process = psutil.Process(running.process.pid)
        headers = {"authorization": f"Bearer {running.token}", "content-type": MEDIA_TYPE, "content-encoding": "zstd"}
        journal = Journal()
        statuses = []
        for number in range(13):
            first = number * 9_000
            batch = journal.batch(*([] if number else [started()]), series=named(range(first, first + 9_000)))
            statuses.append(client.post("/v1/batches", content=body_of(batch), headers=headers, timeout=60).status_code)
        assert statuses == [200] * 11 + [422] * 2
        assert process.memory_info().rss < 300 << 20


@pytest.mark.parametrize(
    "record",
    [
        started(name="x" * (7 << 20)),
        started(name=""),
        started(experiment="x" * 70_000),
        Tag("k" * 65_536, "v", 1),
        Tag("k", "v" * 70_000, 1),
        Tag("nul\0", "v", 1),
        Param("k" * 600, 1, "user", 1),
        Param("k", "x" * 70_000, "user", 1),
        Param("k", [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]], "user", 1),
        Artifact("../../etc/passwd", 1, 3, digest="../../etc/passwd"),
        Artifact("a", 1, 3, digest="AB" * 32),
        Artifact("a", 1, -3, missing="gone"),
    ],
)
def test_20_names_and_values_have_a_size(collector: Collector, record: Any) -> None:
    """Seven megabytes of name, keys and values beyond the limits, digests that are none: 422, with the reason in one line."""
    answer = collector.send(Journal().batch(*([] if type(record).__name__ == "RunStarted" else [started()]), record))
    assert answer.status_code == 422
    assert len(answer.json()["error"]["message"]) < 500
    assert collector.store.runs() == []


def test_20_more_records_than_a_batch_has(collector: Collector) -> None:
    """A hundred thousand tags at once are too much; ten thousand are not."""
    tags = [Tag(f"t{number}", "v", 1) for number in range(100_000)]
    assert collector.send(Journal().batch(started(), *tags)).status_code == 422
    assert collector.send(Journal().batch(started(), *tags[:9_000])).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..\\..\\x",
        "%2e%2e%2f",
        "%252e",
        ";/../",
        "/etc/passwd",
        "C:\\x",
        "~root",
        "a\nb",
        "‮",
        "\u0301",
    ],
)
def test_1_to_8_names_are_only_labels(collector: Collector, name: str) -> None:
    """Whatever a run, a metric, a tag or a file is called comes back as it was told, by every question."""
    digest = "ab" * 32
    batch = Journal(name, "r1").batch(
        started(name=name, experiment=name),
        Tag(name, name, 1),
        Artifact(name, 1, 3, digest=digest, path=name),
        series=[points(name, [1], [1.0], {name: name})],
    )
    assert collector.send(batch).status_code == 200
    client = collector.client("read")
    told = client.get("/v1/runs/r1").json()
    assert (told["run"]["name"], told["run"]["experiment"], told["tags"]) == (name, name, {name: name})
    assert [artifact["name"] for artifact in told["artifacts"]] == [name]
    assert (
        client.get("/v1/runs", params={"filter": f"name = {msgspec.json.encode(name).decode()}"}).json()["runs"][0][
            "id"
        ]
        == "r1"
    )
    (history,) = client.get("/v1/histories", params={"run": "r1", "key": name}).json()["histories"]
    assert (history["key"], history["context"]) == (name, {name: name})


def test_lone_surrogates_and_overlong_utf8_are_refused(collector: Collector) -> None:
    """Text that is not UTF-8 never gets in."""
    for wrong in (b"\xed\xa0\x80", b"\xc0\xaf", b"\xff"):
        body = msgspec.msgpack.encode(HEAD).replace(b"\xa2r1", b"\xa3"[:1] + wrong.ljust(3, b"x")[:3])
        assert post(collector, body).status_code == 400


def test_memory_is_bounded_while_many_send_at_once(tmp_path: Path) -> None:
    """Forty senders of eight megabytes each: some are told to come back, and the collector stays small."""
    from concurrent.futures import ThreadPoolExecutor

    body = os.urandom(7 << 20)
    with server_process(tmp_path) as running:
        process = psutil.Process(running.process.pid)

        def send(_: int) -> tuple[int, str | None]:
            answer = httpx.post(
                f"{running.address}/v1/batches",
                content=body,
                headers={"authorization": f"Bearer {running.token}", "content-type": MEDIA_TYPE},
                timeout=60,
                trust_env=False,
            )
            return answer.status_code, answer.headers.get("retry-after")

        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(send, range(40)))
        assert set(answers) == {(422, None), (503, "1")}
        assert process.memory_info().rss < 256 << 20
        assert httpx.get(f"{running.address}/readyz", trust_env=False).status_code == 200


def test_a_batch_type_is_what_agents_send() -> None:
    """The wire form of a batch survives the way there and back."""
    batch = Journal().batch(
        started(), Tag("a", "b", 1), Param("p", [1, {"a": None}], "user", 2), series=[points("x", [1], [2.0])]
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(batch), type=Batch) == batch


@pytest.mark.parametrize(
    "planted", ["CREATE TRIGGER evil AFTER INSERT ON tag BEGIN DELETE FROM run; END", "CREATE VIEW evil AS SELECT 1"]
)
def test_44_a_crafted_store_is_refused_by_every_command(tmp_path: Path, programs: Programs, planted: str) -> None:
    """A store in which somebody has hidden code is opened by no command; one line says why, and the file stays as it was."""
    SqliteBackend(tmp_path / "looptap.db").close()
    with closing(sqlite3.connect(tmp_path / "looptap.db")) as connection:
        connection.execute(planted)
        connection.commit()
    before = (tmp_path / "looptap.db").read_bytes()
    for words in (["server", "--port", "0", "--store"], ["store", "check"], ["runs", "--store"]):
        done = programs.looptap(*words, str(tmp_path))
        assert done.returncode != 0, words
        assert "evil" in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "looptap.db").read_bytes() == before
