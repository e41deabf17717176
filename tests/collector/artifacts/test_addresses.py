"""Addresses of artifact stores as users write them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from looptap_collector.artifacts import ArtifactsUnavailable, LocalArtifacts, open_artifacts


def test_a_folder(tmp_path: Path) -> None:
    """A path, as text or not, is a folder, which is not made before it is needed."""
    for address in (tmp_path / "artifacts", str(tmp_path / "artifacts")):
        assert isinstance(open_artifacts(address), LocalArtifacts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host/folder",
        "file:///etc",
        "s3://",
        "s3://x/../y",
        "s3://bucket/./x",
        "s3://bucket/a*b",
        "s3://bucket//x",
        "s3://bucket/x?sig=canary",
        "s3://key:canary@bucket/x",
        "az://container@account/x",
        "gs://bucket/a%2e%2e",
        "gs://bucket/a\nb",
    ],
)
def test_wrong_addresses_are_one_line(address: str) -> None:
    """What is no address is told in one line that says how one looks, and repeats nothing that may be secret."""
    with pytest.raises(ArtifactsUnavailable, match="s3://bucket/prefix, az://container/prefix") as told:
        open_artifacts(address)
    assert "canary" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("address", "driver", "extra"),
    [
        ("s3://bucket", "s3fs", "s3"),
        ("az://container", "adlfs", "azure"),
        ("gs://bucket", "gcsfs", "gcs"),
    ],
)
def test_a_missing_driver(address: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line says what to install."""
    monkeypatch.setitem(sys.modules, driver, None)
    monkeypatch.setitem(sys.modules, f"{driver}.core", None)
    with pytest.raises(ArtifactsUnavailable) as told:
        open_artifacts(address)
    assert f"pip install 'looptap[{extra}]'" in str(told.value)


def test_importing_is_cheap() -> None:
    """Whoever keeps artifacts in a folder never imports fsspec or a driver."""
    program = (
        "import sys, looptap_collector.artifacts as artifacts; artifacts.open_artifacts('x');"
        "print([name for name in ('fsspec', 's3fs', 'adlfs', 'gcsfs', 'asyncio') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
