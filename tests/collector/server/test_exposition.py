"""Metrics in Prometheus' binary form: read by Google's library, and by a real Prometheus where there is one."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from collector.backends.servers import found
from collector.server.collectors import Collector
from looptap.events import Window
from looptap.sketches.histogram import Histogram
from looptap_collector.server.exposition import MEDIA_TYPE
from looptap_collector.testing.batches import Journal, started

TYPES = {"string": 9, "uint64": 4, "uint32": 13, "double": 1, "sint32": 17, "sint64": 18, "int32": 5}
#: Of metrics.proto, what a reader needs: number, name, kind; a message by its name, a list with a star.
MESSAGES = {
    "LabelPair": "1 name string, 2 value string",
    "Value": "1 value double",
    "Bucket": "1 cumulative_count uint64, 2 upper_bound double",
    "BucketSpan": "1 offset sint32, 2 length uint32",
    "Histogram": "1 sample_count uint64, 2 sample_sum double, 3 bucket *Bucket, 5 schema sint32, 6 zero_threshold double, "
    "7 zero_count uint64, 9 negative_span *BucketSpan, 10 negative_delta *sint64, 12 positive_span *BucketSpan, "
    "13 positive_delta *sint64",
    "Metric": "1 label *LabelPair, 2 gauge Value, 3 counter Value, 5 untyped Value, 7 histogram Histogram",
    "MetricFamily": "1 name string, 2 help string, 3 type int32, 4 metric *Metric",
}


def family_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package="test", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            number, word, kind = field.split(" ")
            made = message.field.add(name=word, number=int(number), label=3 if kind.startswith("*") else 1)
            kind = kind.removeprefix("*")
            if kind in TYPES:
                made.type = TYPES[kind]
            else:
                made.type, made.type_name = 11, f".test.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.MetricFamily"))


@pytest.fixture
def latency(collector: Collector) -> Histogram:
    """Of a window that the collector has: of many magnitudes, zero and negative ones among them."""
    chance = random.Random(2)
    made = Histogram()
    made.add([*(chance.lognormvariate(-4, 1) for _ in range(2_000)), 0.0, 0.0, -0.25, 1e-300, 1.0])
    windows = [
        Window("intent", time_ns, 10.0, "v1", endpoint="POST /p", requests=1_000, latency={"total": made.encode()})
        for time_ns in (1, 2)
    ]
    windows.append(Window('odd "\\\n🦦', 1, 10.0, requests=3, errors={"E": 2}))
    assert collector.send(Journal().batch(started(kind="serving"), *windows)).status_code == 200
    whole = Histogram()
    whole.merge(made)
    whole.merge(made)
    # The counters follow the answer.
    while "looptap_serving_errors_total" not in collector.client("read").get("/metrics").text:
        time.sleep(0.01)
    return whole


def families(collector: Collector) -> dict[str, Any]:
    answer = collector.client("read").get("/metrics", headers={"accept": f"{MEDIA_TYPE};q=0.7,text/plain;q=0.3"})
    assert answer.headers["content-type"] == MEDIA_TYPE
    kind, found, at = family_class(), {}, 0
    while at < len(answer.content):
        size, at = varint(answer.content, at)
        family = kind.FromString(answer.content[at : at + size])
        found[family.name] = family
        at += size
    return found


def varint(content: bytes, at: int) -> tuple[int, int]:
    """A length, and where what it is of begins."""
    end = next(end for end in range(at, len(content)) if content[end] < 0x80)
    return sum((content[place] & 0x7F) << 7 * (place - at) for place in range(at, end + 1)), end + 1


def test_native_histograms(collector: Collector, latency: Histogram) -> None:
    """Every bucket, with its count, sum and zeros; nothing is rounded."""
    (metric,) = families(collector)["looptap_serving_latency_seconds"].metric
    assert {pair.name: pair.value for pair in metric.label} == {
        "model": "intent",
        "version": "v1",
        "endpoint": "POST /p",
        "part": "total",
    }
    told = metric.histogram
    assert (told.sample_count, told.sample_sum, told.schema) == (len(latency), latency.sum, 5)
    assert (told.zero_threshold, told.zero_count) == (0.0, 4)
    assert unpacked(told.positive_span, told.positive_delta) == {at + 1: n for at, n in latency.positive.items()}
    assert unpacked(told.negative_span, told.negative_delta) == {at + 1: n for at, n in latency.negative.items()}
    assert [bucket.cumulative_count for bucket in told.bucket if bucket.upper_bound == 1.0] == [len(latency)]


def unpacked(spans: Any, deltas: Any) -> dict[int, int]:
    """Counts by Prometheus' number of a bucket."""
    found, at, count, left = {}, 0, 0, iter(deltas)
    for span in spans:
        at += span.offset
        for _ in range(span.length):
            count += next(left)
            found[at] = count
            at += 1
    assert next(left, None) is None
    return found


def test_all_others_too(collector: Collector, latency: Histogram) -> None:
    """What the text has is here as well, counters, gauges and histograms, whatever their labels hold."""
    found = families(collector)
    assert found["looptap_batches_total"].metric[0].counter.value == 1.0
    assert found["looptap_queue_bytes"].metric[0].gauge.value == 0.0
    commit = found["looptap_commit_seconds"].metric[0].histogram
    assert (commit.sample_count, commit.bucket[-1].cumulative_count) == (1, 1)
    requests = {
        metric.label[0].value: metric.counter.value for metric in found["looptap_serving_requests_total"].metric
    }
    assert requests == {"intent": 2_000.0, 'odd "\\\n🦦': 3.0}


def test_a_real_prometheus(collector: Collector, latency: Histogram, tmp_path: Path) -> None:
    """Scrapes native histograms, and its quantiles are ours."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "token").write_text(collector.tokens["read"])
    (tmp_path / "prometheus.yml").write_text(
        "scrape_configs:\n- job_name: looptap\n  scrape_interval: 1s\n"
        f"  authorization: {{credentials_file: {tmp_path / 'token'}}}\n"
        f"  static_configs: [{{targets: ['{collector.address.removeprefix('http://')}']}}]\n"
    )
    command = [
        found("prometheus"),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=native-histograms",
    ]
    asking = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)

    def value(query: str) -> float | None:
        try:
            result = asking.get("/api/v1/query", params={"query": query}).json()["data"]["result"]
        except (httpx.TransportError, KeyError, ValueError):
            return None
        return float(result[0]["value"][1]) if result else None

    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            name = 'looptap_serving_latency_seconds{part="total"}'
            until = time.monotonic() + 120
            while (count := value(f"histogram_count({name})")) is None:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)
            assert count == len(latency)
            assert value(f"histogram_sum({name})") == pytest.approx(latency.sum)
            for share in (0.5, 0.9, 0.99):
                answered = value(f"histogram_quantile({share}, {name})")
                assert answered == pytest.approx(latency.quantile(share), rel=0.022)
            assert value('looptap_serving_requests_total{model="intent"}') == 2_000
        finally:
            process.terminate()
    asking.close()
