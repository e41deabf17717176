"""The files in deploy/: the images cannot be built here, so they are read by their linters, and what they start is started."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from collector.server.collectors import server_process

DEPLOY = Path(__file__).parents[2] / "deploy"


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def instructions(name: str) -> list[str]:
    """The arguments of every such instruction of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(f"{name} ")]


def test_dockerfile_passes_its_linter() -> None:
    """hadolint finds nothing, and does find something in a bad file."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    bad = subprocess.run([hadolint, "-"], input="FROM debian:latest\nRUN sudo ls\n", capture_output=True, text=True)
    assert bad.returncode != 0


def test_the_image_is_small_and_runs_as_nobody_special() -> None:
    """A pinned slim base, only the finished environment in the last stage, no root, no secrets, a health check."""
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+( AS build)?", image) for image in instructions("FROM"))
    last_stage = (DEPLOY / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert re.findall(r"^COPY (.*)", last_stage, re.M) == ["--from=build /opt/looptap /opt/looptap"]
    assert "pip install" not in last_stage
    assert instructions("USER") == ["10001"]
    assert instructions("HEALTHCHECK")
    assert not re.search(r"(?i)(password|secret|token)\s*=", (DEPLOY / "Dockerfile").read_text())


def test_the_start_command_of_the_image_starts(tmp_path: Path) -> None:
    """The very words of ENTRYPOINT and CMD, with the folder and the port of this test, give a collector that answers."""
    (entrypoint,) = instructions("ENTRYPOINT")
    assert len(instructions("CMD")) == 0
    words = json.loads(entrypoint)
    assert words[:2] == ["looptap", "server"]
    words = [word for word in words[2:] if word not in ("--port", "8766")]
    assert "LOOPTAP_COLLECTOR_STORE=/data/store" in (DEPLOY / "Dockerfile").read_text()
    with server_process(tmp_path, *words, store=str(tmp_path / "store")) as running:
        port = running.address.rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).json() == {"status": "ok"}


def test_compose_is_closed_by_default() -> None:
    """Only the collector has a port, on loopback; every image is pinned; every secret comes from outside and must be set."""
    services = compose()["services"]
    assert set(services) == {"collector", "postgres", "objects", "bucket"}
    assert {name: service.get("ports", []) for name, service in services.items() if service.get("ports")} == {
        "collector": ["127.0.0.1:8766:8766"]
    }
    for service in services.values():
        if image := service.get("image"):
            assert re.search(r":\d+(\.\d+)+", image), image
    text = (DEPLOY / "compose.yaml").read_text()
    wanted = set(re.findall(r"\$\{(\w+)", text))
    assert wanted == set(re.findall(r"^(\w+)=$", (DEPLOY / ".env.example").read_text(), re.M))
    assert len(re.findall(r"\$\{\w+:\?", text)) == len(re.findall(r"\$\{\w+", text))
    assert services["collector"]["read_only"] is True


def test_compose_gives_the_server_words_that_it_knows() -> None:
    """Every option of the compose file is one of ``looptap server``."""
    shown = subprocess.run([sys.executable, "-m", "looptap.cli", "server", "--help"], capture_output=True, text=True)
    for word in compose()["services"]["collector"]["command"]:
        if word.startswith("--"):
            assert f"{word} " in shown.stdout


def test_systemd_unit_is_valid(tmp_path: Path) -> None:
    """systemd itself finds nothing wrong with the unit, and its options are those of ``looptap server``."""
    if shutil.which("systemd-analyze") is None:
        pytest.fail("systemd-analyze is missing: apt-get install systemd")
    text = (DEPLOY / "looptap-collector.service").read_text()
    (start,) = re.findall(r"^ExecStart=(.*)", text, re.M)
    assert start.split()[1] == "server"
    unit = tmp_path / "looptap-collector.service"
    unit.write_text(text.replace(start.split()[0], sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
