"""The contract on S3, Azure and Google servers that really run, and what only a bucket can go through."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from collector.artifacts.contract import ArtifactsContract, Reopen, Spoil, digest_of, put
from collector.artifacts.servers import Cloud
from looptap.events import File
from looptap.reading import get_run
from looptap_collector.artifact_cli import artifact as artifact_commands
from looptap_collector.artifacts import ArtifactStore, open_artifacts
from looptap_collector.artifacts.remote import RemoteArtifacts
from looptap_collector.embedded import Embedded
from looptap_collector.testing.batches import Journal, started


class RemoteContract(ArtifactsContract):
    @pytest.fixture
    def bucket(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> str:
        cloud.enter(monkeypatch)
        return cloud.new_bucket()

    @pytest.fixture
    def reopen(self, cloud: Cloud, bucket: str) -> Reopen:
        return lambda: open_artifacts(f"{cloud.scheme}://{bucket}/team/looptap")

    @pytest.fixture
    def spoil(self, cloud: Cloud, bucket: str) -> Spoil:
        def spoil(digest: str, content: bytes) -> None:
            cloud.files().pipe_file(f"{bucket}/team/looptap/{digest[:2]}/{digest[2:4]}/{digest}", content)

        return spoil

    def test_objects_of_others_are_left_alone(
        self, cloud: Cloud, bucket: str, store: ArtifactStore, tmp_path: Path
    ) -> None:
        """The bucket may hold other things, below the prefix and beside it: they are not listed."""
        digest = put(store, tmp_path, b"weights")
        foreign = [f"ab/{digest}", f"{digest[:2]}/notes.txt", f"team/looptap/{digest[:2]}/cd/{'0' * 64}", digest]
        for key in foreign:
            cloud.files().pipe_file(f"{bucket}/{key}", b"foreign")
        assert [item.digest for item in store.digests()] == [digest]

    def test_a_bucket_without_prefix(self, cloud: Cloud, bucket: str, tmp_path: Path) -> None:
        """The prefix may be left out."""
        store = open_artifacts(f"{cloud.scheme}://{bucket}")
        digest = put(store, tmp_path, b"weights")
        assert [item.digest for item in store.digests()] == [digest]
        assert cloud.files().cat_file(f"{bucket}/{digest[:2]}/{digest[2:4]}/{digest}") == b"weights"

    def test_old_content_begins_to_age_anew(
        self, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Content that has long been there is put again, so that retention does not take it for forgotten; young content is
        left as it is."""
        digest = put(store, tmp_path, b"weights")
        (first,) = store.digests()
        time.sleep(1.1)  # a server may tell full seconds only
        put(store, tmp_path, b"weights")
        assert list(store.digests()) == [first]
        later = time.time_ns() + 86_400 * 10**9
        monkeypatch.setattr("looptap_collector.artifacts.remote.time.time_ns", lambda: later)
        put(store, tmp_path, b"weights")
        (second,) = store.digests()
        assert second.digest == digest
        assert second.modified_ns > first.modified_ns

    def test_no_temporary_file_stays(
        self, store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was written to this machine's disk on the way is gone afterwards."""
        folder = tmp_path / "temporary"
        folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        store.open(put(store, tmp_path, b"weights")).close()
        assert list(folder.iterdir()) == []

    def test_a_missing_bucket(self, cloud: Cloud, bucket: str) -> None:
        """A bucket that is not there is told in one line when the store is opened."""
        with pytest.raises(
            OSError, match=r"^\w+://no-such-thing/x: there is no such (bucket|container); make it"
        ) as told:
            open_artifacts(f"{cloud.scheme}://no-such-thing/x")
        assert "\n" not in str(told.value)

    def test_a_bucket_that_is_gone(self, cloud: Cloud, store: ArtifactStore, bucket: str, tmp_path: Path) -> None:
        """When the bucket is taken away meanwhile, putting fails and says so; nothing is lost without a word."""
        cloud.files().rmdir(bucket)
        with pytest.raises(OSError, match="there is no such"):
            put(store, tmp_path, b"weights")


class TestMoto(RemoteContract):
    @pytest.fixture
    def cloud(self, moto: Cloud) -> Cloud:
        return moto


class TestS3rver(RemoteContract):
    @pytest.fixture
    def cloud(self, s3rver: Cloud) -> Cloud:
        return s3rver

    def test_refused_credentials(self, s3rver: Cloud, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that the server does not know, or none at all, is told in one line that does not hold it."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "UNKNOWNKEY")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
        with pytest.raises(OSError, match=r"credentials are missing or refused .*AWS_ACCESS_KEY_ID") as told:
            open_artifacts(f"s3://{bucket}")
        assert not any(word in str(told.value) for word in ("canary", "UNKNOWNKEY", "\n"))
        assert told.value.__suppress_context__
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        with pytest.raises(OSError, match="credentials are missing or refused"):
            open_artifacts(f"s3://{bucket}")

    def test_a_server_that_is_away(self, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that does not answer is an error that is worth another try, in one line."""
        store = open_artifacts(f"s3://{bucket}")
        assert isinstance(store, RemoteArtifacts)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(OSError, match=r"cannot be reached \(EndpointConnectionError\).*AWS_ENDPOINT_URL$"):
            open_artifacts(f"s3://{bucket}")
        assert not store.exists(digest_of(b"")), "the first store still speaks to the server that it was opened on"


class TestAzurite(RemoteContract):
    @pytest.fixture
    def cloud(self, azurite: Cloud) -> Cloud:
        return azurite

    def test_refused_credentials(self, azurite: Cloud, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A wrong key, half a connection string and none are told in one line that does not hold them."""
        right = azurite.environment["AZURE_STORAGE_CONNECTION_STRING"]
        for wrong in (right.replace("Eby8", "Xby8"), "AccountKey=canary-secret", ""):
            monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", wrong)
            with pytest.raises(OSError, match=r"credentials are missing or refused .*AZURE_STORAGE") as told:
                open_artifacts(f"az://{bucket}")
            assert not any(word in str(told.value) for word in ("canary", "Xby8", "\n"))

    def test_both_names_of_the_scheme(self, bucket: str, tmp_path: Path) -> None:
        """abfs:// and az:// are the same place."""
        digest = put(open_artifacts(f"abfs://{bucket}/x"), tmp_path, b"weights")
        assert open_artifacts(f"az://{bucket}/x").exists(digest)


class TestGoogle(RemoteContract):
    @pytest.fixture
    def cloud(self, google: Cloud) -> Cloud:
        return google


def test_a_store_folder_with_its_files_in_a_bucket(
    moto: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With LOOPTAP_ARTIFACT_STORE a run's files go to the bucket, and come back by command and by Python alike."""
    moto.enter(monkeypatch)
    monkeypatch.setenv("LOOPTAP_ARTIFACT_STORE", f"s3://{moto.new_bucket()}/files")
    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    found = model.stat()
    sink = Embedded(tmp_path / "store")
    artifact = sink.keep_file(File(str(model), "model.pt", 1, found.st_size, found.st_mtime_ns))
    sink.deliver(Journal().batch(started(), artifact))
    sink.close()
    assert not (tmp_path / "store" / "artifacts").exists()
    result = CliRunner().invoke(artifact_commands, ["get", "latest", "model.pt", "-o", str(tmp_path / "by-command")])
    assert result.exit_code == 0, result.output
    assert get_run().download("model.pt", tmp_path / "by-python").read_bytes() == b"weights"
    assert (tmp_path / "by-command").read_bytes() == b"weights"
