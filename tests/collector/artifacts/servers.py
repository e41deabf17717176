"""Real servers of object storage on this machine, one of each for a whole test session.

``moto_server`` and ``s3rver`` speak S3, ``azurite`` Azure Blob Storage, ``gcp-storage-emulator`` Google Cloud Storage. The
first and the last come from PyPI, the others from npm: ``.ci/run`` puts them into ``.venv/npm``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from looptap_collector.artifacts.clouds import CLOUDS

ROOT = Path(__file__).parents[3]
_NPM = [ROOT / ".venv" / "npm" / "node_modules" / ".bin", Path("/opt/npm/node_modules/.bin")]
#: Made public by azurite, and the same everywhere.
_AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_S3_KEYS = {"AWS_ACCESS_KEY_ID": "S3RVER", "AWS_SECRET_ACCESS_KEY": "S3RVER", "AWS_DEFAULT_REGION": "us-east-1"}
#: Nothing of the user's own cloud reaches a test.
VARIABLES = ("AWS_", "AZURE_", "STORAGE_EMULATOR_", "GOOGLE_", "GCSFS_")


@dataclass(frozen=True)
class Cloud:
    """A running server, and the environment in which a program finds it."""

    scheme: str
    environment: Mapping[str, str]

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The environment of this test is that of a user of the server."""
        for name in list(os.environ):
            if name.startswith(VARIABLES):
                monkeypatch.delenv(name)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    def new_bucket(self) -> str:
        name = f"bucket-{secrets.token_hex(6)}"
        self.files().mkdir(name)
        return name

    def files(self) -> Any:
        """The server's objects through fsspec, behind the store's back."""
        return CLOUDS[self.scheme].connect()


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    module = _python("moto.server", "moto[server]")
    with _running([*module, "-H", "127.0.0.1", "-p", "{port}"], tmp_path_factory.mktemp("moto")) as port:
        yield Cloud("s3", {**_S3_KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"})


@pytest.fixture(scope="session")
def s3rver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("s3rver")
    command = [_node("s3rver"), "-s", "-d", str(folder), "-a", "127.0.0.1", "-p", "{port}", "--no-vhost-buckets"]
    with _running(command, folder) as port:
        yield Cloud("s3", {**_S3_KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"})


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    options = ["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    command = [_node("azurite-blob"), *options, "--blobHost", "127.0.0.1", "--blobPort", "{port}"]
    with _running(command, tmp_path_factory.mktemp("azurite")) as port:
        yield Cloud(
            "az",
            {
                "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
                f"AccountKey={_AZURITE_KEY};BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
            },
        )


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    module = _python("gcp_storage_emulator", "gcp-storage-emulator")
    command = [*module, "start", "--host=127.0.0.1", "--port={port}", "--in-memory"]
    with _running(command, tmp_path_factory.mktemp("google")) as port:
        yield Cloud("gs", {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"})


def _python(module: str, package: str) -> list[str]:
    try:
        found = find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        _is_missing(f"{package} (pip install -e '.[dev]')")
    return [sys.executable, "-m", module]


def _node(program: str) -> str:
    path = os.pathsep.join([*map(str, _NPM), os.environ.get("PATH", "")])
    return shutil.which(program, path=path) or _is_missing(f"{program} (npm install --prefix .venv/npm azurite s3rver)")


def _is_missing(what: str) -> str:
    if os.environ.get("CI"):
        pytest.fail(f"not installed: {what}")
    pytest.skip(f"not installed: {what}")


@contextlib.contextmanager
def _running(command: list[str], folder: Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as output:
        words = [word.format(port=port) for word in command]
        process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=output, start_new_session=True)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, f"{command[0]} ended: {log.read_text(errors='replace')}"
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)
