"""Files over HTTP: in pieces, by digest, verified."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from collector.server.collectors import Collector
from looptap.events import Artifact
from looptap_collector.testing.batches import Journal, started

CONTENT = random.Random(1).randbytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def put(
    client: httpx.Client, start: int, end: int, *, digest: str = DIGEST, content: bytes = CONTENT
) -> httpx.Response:
    headers = {"content-range": f"bytes {start}-{end - 1}/{len(content)}"}
    return client.put(f"/v1/artifacts/{digest}", content=content[start:end], headers=headers)


def cut() -> Iterator[bytes]:
    """The rest from a million on, of which only a part arrives before the connection breaks."""
    yield CONTENT[1_000_000:1_400_000]
    raise httpx.WriteError("cut")


def test_a_whole_file_at_once(collector: Collector) -> None:
    """It is there when it is answered, byte for byte; the second time it is known."""
    client = collector.client("ingest")
    assert client.head(f"/v1/artifacts/{DIGEST}").status_code == 404
    for _ in range(2):
        answer = client.put(f"/v1/artifacts/{DIGEST}", content=CONTENT)
        assert (answer.status_code, answer.json()) == (201, {"received": len(CONTENT), "complete": True})
    head = client.head(f"/v1/artifacts/{DIGEST}")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))
    assert collector.client("read").get(f"/v1/artifacts/{DIGEST}").content == CONTENT


def test_in_pieces_with_a_cut_between(collector: Collector) -> None:
    """An upload goes on where it stopped: the collector tells where that is, also to one who got it wrong."""
    client = collector.client("ingest")
    assert client.get(f"/v1/artifacts/{DIGEST}/upload").json() == {"received": 0}
    first = put(client, 0, 1_000_000)
    assert (first.status_code, first.json()) == (202, {"received": 1_000_000, "complete": False})
    for start in (0, 500_000, 2_000_000):
        wrong = put(client, start, start + 10)
        assert (wrong.status_code, wrong.json()["received"]) == (409, 1_000_000)
        assert wrong.json()["error"]["code"] == "conflict"
    assert collector.client("read").get(f"/v1/artifacts/{DIGEST}").status_code == 404
    length = len(CONTENT) - 1_000_000
    headers = {"content-range": f"bytes 1000000-{len(CONTENT) - 1}/{len(CONTENT)}", "content-length": str(length)}
    with pytest.raises(httpx.HTTPError):
        client.put(f"/v1/artifacts/{DIGEST}", content=cut(), headers=headers)
    received = client.get(f"/v1/artifacts/{DIGEST}/upload").json()["received"]
    assert 1_000_000 <= received <= 1_400_000
    assert put(client, received, len(CONTENT)).json() == {"received": len(CONTENT), "complete": True}
    assert collector.client("read").get(f"/v1/artifacts/{DIGEST}").content == CONTENT


def test_other_content_than_the_digest_says(collector: Collector) -> None:
    """Hostile 10: refused, forgotten, never to be had; the right file can still come."""
    client = collector.client("ingest")
    for wrong in (CONTENT[:-1] + b"x", CONTENT[:-1], b"", CONTENT + b"x"):
        answer = client.put(f"/v1/artifacts/{DIGEST}", content=wrong)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "digest_mismatch")
        assert client.get(f"/v1/artifacts/{DIGEST}/upload").json() == {"received": 0}
    assert collector.client("read").get(f"/v1/artifacts/{DIGEST}").status_code == 404
    assert client.put(f"/v1/artifacts/{DIGEST}", content=CONTENT).status_code == 201


def test_an_empty_file(collector: Collector) -> None:
    """Nothing is content, too."""
    digest = hashlib.sha256(b"").hexdigest()
    answer = collector.client("ingest").put(
        f"/v1/artifacts/{digest}", content=b"", headers={"content-range": "bytes */0"}
    )
    assert answer.json() == {"received": 0, "complete": True}
    assert collector.client("read").get(f"/v1/artifacts/{digest}").content == b""


def test_two_owners_do_not_disturb_each_other(collector: Collector) -> None:
    """The same digest from two sides at once: each has its own upload, and one with other content spoils nothing."""
    collector.tokens["other"] = collector.token("other", "ingest")
    one, other = collector.client("ingest"), collector.client("other")
    put(one, 0, 1_000_000)
    assert other.get(f"/v1/artifacts/{DIGEST}/upload").json() == {"received": 0}
    assert other.put(f"/v1/artifacts/{DIGEST}", content=b"poison").status_code == 422
    assert put(one, 1_000_000, len(CONTENT)).status_code == 201


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=100-", 206, 100, 3_000_000),
        ("bytes=-5", 206, 2_999_995, 3_000_000),
        ("bytes=0-99999999", 206, 0, 3_000_000),
        ("bytes=3000000-", 416, 0, 0),
        ("bytes=9-3", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=0-1,5-6", 416, 0, 0),
        ("lines=1-2", 416, 0, 0),
        ("bytes=" + "9" * 40 + "-", 416, 0, 0),
    ],
)
def test_ranges(collector: Collector, asked: str, status: int, start: int, end: int) -> None:
    """A part of the content, exactly; what is no range is refused."""
    collector.client("ingest").put(f"/v1/artifacts/{DIGEST}", content=CONTENT)
    answer = collector.client("read").get(f"/v1/artifacts/{DIGEST}", headers={"range": asked})
    assert answer.status_code == status
    if status == 206:
        assert answer.content == CONTENT[start:end]
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/3000000"


def test_a_download_is_never_a_page(collector: Collector) -> None:
    """Hostile 33: HTML comes as an attachment of no type, in a sandbox."""
    page = b"<html><script>alert(1)</script></html>"
    digest = hashlib.sha256(page).hexdigest()
    collector.client("ingest").put(f"/v1/artifacts/{digest}", content=page)
    answer = collector.client("read").get(f"/v1/artifacts/{digest}")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("digest", "status"),
    [
        ("..%2f..%2fetc%2fpasswd", 404),
        ("A" * 64, 422),
        ("0" * 63, 422),
        ("0" * 65, 422),
        ("0" * 64 + "%00", 400),
        ("~root", 422),
        ("%2e%2e", 422),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_what_is_no_digest_is_no_address(collector: Collector, method: str, digest: str, status: int) -> None:
    """Hostile 1 to 9: paths, wrong cases and lengths never reach the disk."""
    answer = collector.client("admin").request(
        method, f"/v1/artifacts/{digest}", content=b"x" if method == "PUT" else None
    )
    assert answer.status_code == status


@pytest.mark.parametrize(
    "told", ["bytes 0-9/5", "bytes 5-2/100", "bytes 0-99/100", "bytes a-b/c", "0-9/10", "bytes 0-9/*", "bytes -1-8/9"]
)
def test_a_range_that_makes_no_sense(collector: Collector, told: str) -> None:
    """What does not fit the body is refused by name, before anything is kept."""
    client = collector.client("ingest")
    answer = client.put(f"/v1/artifacts/{DIGEST}", content=CONTENT[:10], headers={"content-range": told})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "Content-Range")
    assert client.get(f"/v1/artifacts/{DIGEST}/upload").json() == {"received": 0}


def test_a_file_beyond_the_limit(collector: Collector) -> None:
    """Hostile 10: a first piece of a file of six gigabytes is 413 at once."""
    client = collector.client("ingest")
    answer = client.put(f"/v1/artifacts/{DIGEST}", content=b"x", headers={"content-range": f"bytes 0-0/{6 << 30}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_archives_and_pickles_are_only_bytes(collector: Collector, tmp_path: Path) -> None:
    """Hostile 11 and 41: nothing is unpacked or loaded; a pickle that would leave a mark leaves none."""
    import pickle
    import tarfile

    mark = tmp_path / "mark"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {mark}",)

    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("../../escaped")
        archive.addfile(member)
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    for content in (path.read_bytes(), pickle.dumps(Evil())):
        digest = hashlib.sha256(content).hexdigest()
        assert collector.client("ingest").put(f"/v1/artifacts/{digest}", content=content).status_code == 201
        assert collector.client("read").get(f"/v1/artifacts/{digest}").content == content
    assert not mark.exists()
    assert not list(tmp_path.rglob("escaped"))


def test_a_planted_link_is_not_followed(collector: Collector, tmp_path: Path) -> None:
    """Hostile 9: a link in the place of an artifact or of a folder of the store is refused, not read."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    digest = "ab" * 32
    folder = tmp_path / "store" / "artifacts" / "ab" / "ab"
    folder.mkdir(parents=True)
    (folder / digest).symlink_to(secret)
    answer = collector.client("read").get(f"/v1/artifacts/{digest}")
    assert answer.status_code == 503
    assert b"secret" not in answer.content


def test_many_uploads_at_once_are_told_to_wait(collector: Collector) -> None:
    """Each holds a little memory, so there is a bound."""
    for number in range(16):
        collector.app.state.service.uploading.take(f"other-{number % 2}")
    answer = put(collector.client("ingest"), 0, 10)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_what_nobody_refers_to_is_sent_again_in_time(collector: Collector, tmp_path: Path) -> None:
    """Content that is old and of no run may be collected at any moment: it does not count as known, and sending it makes it
    new. With a run that refers to it, it is known however old it is."""
    client = collector.client("ingest")
    client.put(f"/v1/artifacts/{DIGEST}", content=CONTENT)
    path = tmp_path / "store" / "artifacts" / DIGEST[:2] / DIGEST[2:4] / DIGEST
    day_ago = path.stat().st_mtime - 86_400
    os.utime(path, (day_ago, day_ago))
    assert client.head(f"/v1/artifacts/{DIGEST}").status_code == 404
    assert client.put(f"/v1/artifacts/{DIGEST}", content=CONTENT).status_code == 201
    assert path.stat().st_mtime > day_ago + 80_000
    assert client.head(f"/v1/artifacts/{DIGEST}").status_code == 200
    os.utime(path, (day_ago, day_ago))
    collector.send(Journal().batch(started(), Artifact("m", 1, len(CONTENT), digest=DIGEST)))
    assert client.head(f"/v1/artifacts/{DIGEST}").status_code == 200


def test_an_upload_that_had_all_arrived_can_be_finished(collector: Collector) -> None:
    """When the store of files failed after the last byte, an empty piece finishes what is there."""
    client = collector.client("ingest")
    headers = {"content-range": f"bytes */{len(CONTENT)}"}
    answer = client.put(f"/v1/artifacts/{DIGEST}", content=b"", headers=headers)
    assert (answer.status_code, answer.json()["received"]) == (409, 0)
    service = collector.app.state.service
    store = service.uploads._store

    class Failing:
        def add(self, path: Path, digest: str) -> None:
            raise OSError("away")

    service.uploads._store = Failing()
    assert put(client, 0, len(CONTENT)).status_code == 503
    service.uploads._store = store
    assert client.get(f"/v1/artifacts/{DIGEST}/upload").json() == {"received": len(CONTENT)}
    assert client.put(f"/v1/artifacts/{DIGEST}", content=b"", headers=headers).json()["complete"] is True
    assert collector.client("read").get(f"/v1/artifacts/{DIGEST}").content == CONTENT
