"""What retention may delete, and what it must not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.artifacts.contract import digest_of, put
from collector.artifacts.servers import Cloud
from looptap_collector.artifacts import ArtifactStore, LocalArtifacts, Stored, open_artifacts
from looptap_collector.artifacts.retention import Collected, collect, plan


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifacts:
    return LocalArtifacts(tmp_path / "artifacts")


def make_old(folder: Path, digest: str) -> None:
    two_days_ago = time.time() - 2 * 86_400
    os.utime(folder / "artifacts" / digest[:2] / digest[2:4] / digest, (two_days_ago, two_days_ago))


def left(store: ArtifactStore) -> set[str]:
    return {item.digest for item in store.digests()}


def test_only_what_is_old_and_not_referred_to(store: LocalArtifacts, tmp_path: Path) -> None:
    """A plan deletes nothing and says what would go; collecting deletes just that."""
    old, used, young = (put(store, tmp_path, content) for content in (b"old one", b"in use", b"young"))
    make_old(tmp_path, old)
    make_old(tmp_path, used)
    planned = plan([used, used, "0" * 64], store)
    assert (dict(planned.digests), planned.size_bytes, planned.kept) == ({old: 7}, 7, 2)
    assert left(store) == {old, used, young}
    assert collect(planned, store, lambda digest: False) == Collected(deleted=1, size_bytes=7, spared=0)
    assert left(store) == {used, young}
    assert collect(planned, store, lambda digest: False).size_bytes == 7, "what is gone already does no harm"


def test_a_reference_made_during_the_listing_counts(store: LocalArtifacts, tmp_path: Path) -> None:
    """The references are read after the list of artifacts, not before."""
    digest = put(store, tmp_path, b"old one")
    make_old(tmp_path, digest)
    referenced: list[str] = []

    class Listing(LocalArtifacts):
        def digests(self) -> Iterator[Stored]:
            yield from super().digests()
            referenced.append(digest)

    assert not plan((item for item in referenced), Listing(tmp_path / "artifacts")).digests


def test_asked_again_before_each(store: LocalArtifacts, tmp_path: Path) -> None:
    """What a run has come to refer to since the plan stays, and so does what was put again."""
    used, again, gone = (put(store, tmp_path, content) for content in (b"used", b"again", b"gone"))
    for digest in (used, again, gone):
        make_old(tmp_path, digest)
    planned = plan([], store)
    assert set(planned.digests) == {used, again, gone}
    asked: list[str] = []

    def still_referenced(digest: str) -> bool:
        asked.append(digest)
        return digest == used

    put(store, tmp_path, b"again")
    assert collect(planned, store, still_referenced) == Collected(deleted=1, size_bytes=4, spared=2)
    assert sorted(asked) == sorted(planned.digests)
    assert left(store) == {used, again}


def test_in_a_bucket(moto: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for object storage."""
    moto.enter(monkeypatch)
    store = open_artifacts(f"s3://{moto.new_bucket()}/x")
    used, gone = put(store, tmp_path, b"used"), put(store, tmp_path, b"gone")
    assert not plan([used], store).digests, "both are young"
    planned = plan([used], store, older_than_s=-60)
    assert planned.digests == {gone: 4}
    collect(planned, store, lambda digest: digest == used)
    assert left(store) == {used}
    assert digest_of(b"used") == used
