"""What is measured, in Prometheus' own binary form: the only one with native histograms, in which no bucket is lost.

Messages and numbers of fields are those of ``io.prometheus.client`` (prometheus/client_model, ``metrics.proto``). So few are needed
that they are written here; ``tests/collector/server/test_exposition.py`` has a real Prometheus read them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.samples import Sample

from looptap.sketches.histogram import SCALE, Histogram
from looptap_collector.server.measures import Measures
from looptap_collector.server.traffic import LATENCY, classic_buckets, spans

MEDIA_TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
_COUNTER, _GAUGE, _UNTYPED, _HISTOGRAM = 0, 1, 3, 4
_TYPES = {"counter": _COUNTER, "gauge": _GAUGE, "histogram": _HISTOGRAM}
#: The field of a metric that holds its value.
_FIELDS = {_COUNTER: 3, _GAUGE: 2, _UNTYPED: 5, _HISTOGRAM: 7}


def wanted(accept: str) -> bool:
    return "application/vnd.google.protobuf" in accept and "io.prometheus.client.MetricFamily" in accept


def exposed(measures: Measures) -> bytes:
    """Every family, each with its length before it."""
    native = measures.traffic.latencies()
    families = (_family(metric, native) for metric in measures.registry.collect())
    return b"".join(_varint(len(family)) + family for family in families)


def _family(metric: Metric, native: Iterable[tuple[dict[str, str], Histogram]]) -> bytes:
    kind = _TYPES.get(metric.type, _UNTYPED)
    metrics: Iterable[bytes]
    if metric.name == LATENCY:
        metrics = (_metric(labels, _HISTOGRAM, _native(found)) for labels, found in native)
    elif kind == _HISTOGRAM:
        metrics = _classic(metric.samples)
    else:
        metrics = (_metric(one.labels, kind, _double(1, one.value)) for one in metric.samples)
    name = f"{metric.name}_total" if kind == _COUNTER else metric.name
    head = _bytes(1, name.encode()) + _bytes(2, metric.documentation.encode()) + _whole(3, kind)
    return head + b"".join(_bytes(4, one) for one in metrics)


def _metric(labels: Mapping[str, str], kind: int, value: bytes) -> bytes:
    pairs = (_bytes(1, name.encode()) + _bytes(2, label.encode()) for name, label in labels.items())
    return b"".join(_bytes(1, pair) for pair in pairs) + _bytes(_FIELDS[kind], value)


def _native(found: Histogram) -> bytes:
    """With its classic buckets beside, for a server that wants these."""
    written = _whole(1, len(found)) + _double(2, found.sum)
    written += b"".join(_bucket(float(bound), count) for bound, count in classic_buckets(found))
    written += _whole(5, _zigzag(SCALE)) + _double(6, 0.0) + _whole(7, found.zero)
    for at, buckets in ((9, found.negative), (12, found.positive)):
        runs, deltas = spans(buckets)
        written += b"".join(_bytes(at, _whole(1, _zigzag(gap)) + _whole(2, length)) for gap, length in runs)
        written += b"".join(_whole(at + 1, _zigzag(delta)) for delta in deltas)
    return written


def _classic(samples: Iterable[Sample]) -> Iterator[bytes]:
    """Samples of one histogram follow each other: its buckets, its count and its sum."""
    parts: dict[tuple[tuple[str, str], ...], bytes] = {}
    for one in samples:
        labels = {name: value for name, value in one.labels.items() if name != "le"}
        which = tuple(labels.items())
        if one.name.endswith("_bucket"):
            told = _bucket(float(one.labels["le"]), one.value)
        elif one.name.endswith("_count"):
            told = _whole(1, int(one.value))
        else:
            told = _double(2, one.value)
        parts[which] = parts.get(which, b"") + told
    return (_metric(dict(which), _HISTOGRAM, written) for which, written in parts.items())


def _bucket(bound: float, count: float) -> bytes:
    return _bytes(3, _whole(1, int(count)) + _double(2, bound))


# Protocol buffers: a field is its number and kind, and what it holds.


def _whole(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _double(field: int, number: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", number)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
