"""What the collector tells of itself, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from looptap_collector.server.traffic import Traffic

# A second line for every counter, with the time of our start, which Prometheus tells by itself.
disable_created_metrics()  # type: ignore[no-untyped-call]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Measures:
    """One set for one app; names as they appear at ``/metrics``."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        #: What served models answered.
        self.traffic = Traffic()
        registry.register(self.traffic)
        self.received_bytes = Counter("looptap_received_bytes", "Bodies of batches, as sent", registry=registry)
        self.batches = Counter(
            "looptap_batches", "Batches by what became of them: stored, duplicate", ["outcome"], registry=registry
        )
        self.rejected = Counter("looptap_batches_rejected", "Batches refused, by reason", ["reason"], registry=registry)
        self.points = Counter("looptap_points_stored", "Points in stored batches", registry=registry)
        self.records = Counter("looptap_records_stored", "Other records in stored batches", registry=registry)
        self.refused = Counter("looptap_requests_refused", "Requests stopped at the gate", ["code"], registry=registry)
        self.queue_batches = Gauge("looptap_queue_batches", "Batches that wait for the store", registry=registry)
        self.queue_bytes = Gauge("looptap_queue_bytes", "Bytes that wait for the store", registry=registry)
        self.group = Histogram(
            "looptap_group_batches", "Batches in one commit", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.commit = Histogram("looptap_commit_seconds", "One commit of a group", buckets=_SECONDS, registry=registry)
        self.acknowledge = Histogram(
            "looptap_acknowledge_seconds", "From a batch received to its answer", buckets=_SECONDS, registry=registry
        )
        self.artifact_bytes = Counter("looptap_artifact_received_bytes", "Bytes of artifacts", registry=registry)
        self.artifacts = Counter("looptap_artifacts_stored", "Artifacts stored and verified", registry=registry)
        self.connections_dropped = Counter(
            "looptap_connections_dropped", "Connections closed by a limit", ["reason"], registry=registry
        )
