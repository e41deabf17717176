"""The wire protocol from the agent's side: which answer means what for a batch, and how a file gets across."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.collectors import OWNER, Collector
from faultproxy import (
    Fault,
    FaultProxy,
    above,
    answer,
    lost_answer,
    on,
    portal,
    redirect,
    refusal,
    reset_mid_body,
    silent,
    truncated,
)
from looptap.events import Artifact, Batch, File, Rejected, RunEnded
from looptap.http_sink import HttpSink
from looptap.settings import Settings
from looptap.sinks import NeedsUser, Sink, Unavailable, open_sink
from looptap.upload import MOST_PIECE_BYTES
from looptap_collector.testing.batches import Journal, points, started


@pytest.fixture
def sink(proxy: FaultProxy, settings: Settings) -> Iterator[HttpSink]:
    found = HttpSink(proxy.url, settings, seconds=1.0)
    yield found
    found.close()


def large_batch() -> Batch:
    steps = list(range(20_000))
    return Journal().batch(started(), series=[points("loss", steps, [hash(str(step)) / 7 for step in steps])])


def test_batches_arrive_once(sink: HttpSink, collector: Collector) -> None:
    """A batch is stored as it was, the same again is delivered as well, and the position follows."""
    journal = Journal()
    batch = journal.batch(started(), series=[points("loss", [0, 1], [0.5, float("nan")])])
    assert sink.position("j1") == 0
    sink.deliver(batch)
    sink.deliver(batch)
    sink.deliver(journal.batch(RunEnded("finished", 2)))
    assert sink.position("j1") == journal.next == 4
    assert collector.steps("r1") == [0, 1]
    assert collector.delivery("r1").stored == 4


def test_name_of_a_journal_stays_in_its_place(sink: HttpSink, proxy: FaultProxy) -> None:
    """No journal's name is ever part of the path."""
    proxy.behave(answer(200, b'{"next": 7}'))
    assert sink.position("../../x?y#z ü") == 7
    assert proxy.requests[0].path == "/v1/journals/..%2F..%2Fx%3Fy%23z%20%C3%BC"


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_collector_says_never(sink: HttpSink, proxy: FaultProxy, status: int) -> None:
    """What the collector refuses in its own words is refused for good, with its reason."""
    proxy.behave(refusal(status, "rejected", "metric name is too long"))
    with pytest.raises(Rejected, match="metric name is too long"):
        sink.deliver(Journal().batch(started()))


@pytest.mark.parametrize(
    "fault",
    [
        *(answer(status, b"<html>", "text/html") for status in (400, 404, 405, 409, 413, 415, 422, 500, 502, 504)),
        *(answer(status, b'{"error": "no"}') for status in (400, 409, 413, 422)),
        refusal(404, "not_found"),
        refusal(415, "unsupported_media_type"),
        refusal(500, "internal"),
        refusal(503, "busy"),
        refusal(429, "busy"),
        answer(200, b'{"outcome": "thanks"}'),
        answer(200, b'{"outcome": "stored"'),
        answer(200, b'{"outcome": "stored"}', "text/html"),
        answer(201, b'{"outcome": "stored"}'),
        answer(204),
        portal(),
        redirect("http://127.0.0.1:9"),
        silent,
        truncated,
        lost_answer,
        reset_mid_body,
    ],
)
def test_anything_else_means_not_now(sink: HttpSink, proxy: FaultProxy, fault: Fault) -> None:
    """What anybody else says costs no record."""
    proxy.behave(fault)
    with pytest.raises(Unavailable):
        sink.deliver(Journal().batch(started()))


def test_limit_of_a_proxy(sink: HttpSink, proxy: FaultProxy) -> None:
    """A 413 of anybody's is believed of a large body, so that it is cut down; of a small one it is not (case 9)."""
    proxy.behave(answer(413, b"<html>Request Entity Too Large", "text/html"))
    with pytest.raises(Rejected, match="413"):
        sink.deliver(large_batch())
    with pytest.raises(Unavailable):
        sink.deliver(Journal().batch(started()))


@pytest.mark.parametrize(
    "body", [b'{"next": -1}', b'{"next": "1"}', b'{"next": 1.5}', b"{}", b"7", b"[" * 50_000, b"\xff"]
)
def test_position_of_a_stranger(sink: HttpSink, proxy: FaultProxy, body: bytes) -> None:
    """A position that is none is not believed."""
    proxy.behave(answer(200, body))
    with pytest.raises(Unavailable, match="not a looptap collector"):
        sink.position("j1")


def test_sink_for_an_address(proxy: FaultProxy, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """open_sink() takes a collector's address; without settings of a program the environment's hold."""
    assert open_sink(proxy.url, settings).position("j1") == 0
    with pytest.raises(NeedsUser, match="LOOPTAP_TOKEN"):
        open_sink(proxy.url).position("j1")
    monkeypatch.setenv("LOOPTAP_TOKEN", settings.token)
    assert open_sink(f"{proxy.url}/").position("j1") == 0


# --- files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], File]:
    """Makes a file and notices it."""

    def written(content: bytes) -> File:
        path = tmp_path / "model.pt"
        path.write_bytes(content)
        return noticed(path)

    return written


def noticed(path: Path) -> File:
    state = os.stat(path)
    return File(str(path), path.name, 1, state.st_size, state.st_mtime_ns, kind="model", step=3)


def kept(sink: Sink, file: File, patience: int = 0) -> Artifact:
    """As the courier does it: again until it is done; ``patience``: how often it may fail."""
    while True:
        try:
            artifact = sink.keep_file(file)
        except Unavailable:
            if patience == 0:
                raise
            patience -= 1
        else:
            if artifact is not None:
                return artifact


@pytest.mark.parametrize("size", [0, 1, MOST_PIECE_BYTES, 2 * MOST_PIECE_BYTES + 5])
def test_file_is_kept(
    sink: HttpSink, collector: Collector, proxy: FaultProxy, write: Callable[[bytes], File], size: int
) -> None:
    """Content arrives as it was, piece by piece; the same content again is not sent a second time."""
    content = os.urandom(size)
    file = write(content)
    artifact = kept(sink, file)
    assert artifact.digest == hashlib.sha256(content).hexdigest()
    assert (artifact.name, artifact.kind, artifact.step, artifact.missing) == ("model.pt", "model", 3, None)
    with collector.artifacts.open(artifact.digest) as found:
        assert found.read() == content
    pieces = [seen for seen in proxy.requests if seen.method == "PUT"]
    assert sum(seen.length for seen in pieces) == size
    assert max(seen.length for seen in pieces) <= MOST_PIECE_BYTES
    assert kept(sink, file) == artifact
    assert [seen for seen in proxy.requests if seen.method == "PUT"] == pieces


@pytest.mark.parametrize("fault", [lost_answer, reset_mid_body, truncated, silent, refusal(503, "busy")])
def test_upload_goes_on_where_it_was(
    sink: HttpSink, collector: Collector, proxy: FaultProxy, write: Callable[[bytes], File], fault: Fault
) -> None:
    """A piece that was cut, or whose answer was lost, does not begin the upload again."""
    content = os.urandom(3 * MOST_PIECE_BYTES)
    file = write(content)
    assert sink.keep_file(file) is None
    proxy.script(fault)
    with pytest.raises(Unavailable):
        sink.keep_file(file)
    artifact = kept(sink, file)
    assert artifact.digest is not None
    with collector.artifacts.open(artifact.digest) as found:
        assert found.read() == content
    starts = [seen.headers["content-range"] for seen in proxy.requests if seen.method == "PUT"]
    assert sum(start.startswith("bytes 0-") for start in starts) == 1


def test_upload_goes_on_in_another_process(
    sink: HttpSink, settings: Settings, proxy: FaultProxy, write: Callable[[bytes], File]
) -> None:
    """What the collector has of a file is asked, not remembered."""
    file = write(os.urandom(2 * MOST_PIECE_BYTES))
    assert sink.keep_file(file) is None
    sink.close()
    assert kept(HttpSink(proxy.url, settings), file).digest is not None
    assert sum(seen.length for seen in proxy.requests if seen.method == "PUT") == file.size_bytes


def test_upload_that_others_have_moved(
    sink: HttpSink, collector: Collector, proxy: FaultProxy, write: Callable[[bytes], File]
) -> None:
    """Where two send the same file, a piece that does not fit is settled by asking."""
    content = os.urandom(2 * MOST_PIECE_BYTES)
    file = write(content)
    assert sink.keep_file(file) is None
    digest = hashlib.sha256(content).hexdigest()
    collector.uploads.append(
        digest, OWNER, MOST_PIECE_BYTES, len(content), [content[MOST_PIECE_BYTES : MOST_PIECE_BYTES + 100]]
    )
    assert kept(sink, file, patience=1).digest == digest


def test_proxy_that_takes_small_pieces(sink: HttpSink, proxy: FaultProxy, write: Callable[[bytes], File]) -> None:
    """A limit on the way makes the pieces smaller, not the file missing."""
    proxy.behave(above(300_000, answer(413, b"<html>", "text/html")))
    file = write(os.urandom(1_000_000))
    assert kept(sink, file).digest is not None


def test_pages_that_look_like_content(sink: HttpSink, proxy: FaultProxy, write: Callable[[bytes], File]) -> None:
    """A login page that answers 200 to everything keeps nothing, and says so."""
    proxy.behave(portal())
    with pytest.raises(Unavailable, match="not a looptap collector"):
        kept(sink, write(b"weights"))
    proxy.behave(on("/v1/artifacts", portal(), "HEAD"))
    assert kept(sink, write(b"weights")).digest is not None


def test_file_that_is_not_what_it_was(sink: HttpSink, collector: Collector, tmp_path: Path) -> None:
    """Deleted, overwritten, no file, too large: the reason is kept in the content's place, in the words of the embedded store."""
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    file = noticed(path)
    path.write_bytes(b"others!")
    os.utime(path, ns=(1, file.modified_ns + 1))
    assert kept(sink, file).missing == "superseded"
    path.unlink()
    assert kept(sink, file).missing == "deleted"
    assert kept(sink, File(str(path / "below"), "x", 1, 1, 1)).missing == "deleted"
    assert kept(sink, noticed(tmp_path)).missing == "unreadable"
    assert kept(sink, File("a\0b", "x", 1, 1, 1)).missing == "unreadable"
    assert kept(sink, File(str(path), "x", 1, 6 * 2**30, 1)).missing == "too_large"


def test_file_that_changes_on_the_way(sink: HttpSink, collector: Collector, tmp_path: Path) -> None:
    """Written into between two pieces, it is superseded; replaced by another file, it is still what it was."""
    path = tmp_path / "model.pt"
    path.write_bytes(content := os.urandom(2 * MOST_PIECE_BYTES))
    file = noticed(path)
    assert sink.keep_file(file) is None
    with path.open("r+b") as inside:
        inside.write(b"changed")
    assert kept(sink, file).missing == "superseded"
    path.write_bytes(content)
    file = noticed(path)
    kept_before = sink.keep_file(file)
    (tmp_path / "new").write_bytes(b"next epoch")
    os.replace(tmp_path / "new", path)
    artifact = kept_before or kept(sink, file)
    assert artifact.digest == hashlib.sha256(content).hexdigest()


def test_collector_refuses_a_file(sink: HttpSink, proxy: FaultProxy, write: Callable[[bytes], File]) -> None:
    """Beyond its limit it is too large; of other content than its digest, that is worth another try, and then told."""
    proxy.script(answer(404), answer(200, b'{"received": 0}'), refusal(413, "too_large"))
    assert kept(sink, write(b"weights")).missing == "too_large"
    proxy.script(answer(404), answer(200, b'{"received": 0}'), refusal(422, "digest_mismatch", "other content"))
    with pytest.raises(Rejected, match="other content"):
        kept(sink, write(b"weights"))
    assert kept(sink, write(b"weights")).digest is not None


def test_collector_without_a_place_for_files(sink: HttpSink, proxy: FaultProxy, write: Callable[[bytes], File]) -> None:
    """A collector that knows no uploads says never, so that what comes behind the file does not wait for ever."""
    proxy.behave(on("/v1/artifacts", refusal(404, "not_found")))
    with pytest.raises(Rejected, match="takes no files"):
        kept(sink, write(b"weights"))


@pytest.mark.parametrize("received", [b"0", b"4", b"99", b"-1", b'"7"'])
def test_collector_that_cannot_count(
    sink: HttpSink, proxy: FaultProxy, write: Callable[[bytes], File], received: bytes
) -> None:
    """An upload that does not get on is a failure with its pause, not a loop."""
    proxy.script(answer(404), answer(200, b'{"received": 4}'), answer(202, b'{"received": %s}' % received))
    with pytest.raises(Unavailable):
        kept(sink, write(b"weights"))
