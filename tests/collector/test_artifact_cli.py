"""``looptap artifact`` as a user types it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from collector.artifacts.contract import put
from collector.recorded import Recording
from collector.test_cli import ESCAPES, looptap
from looptap_collector.artifacts import LocalArtifacts
from looptap_collector.backend import Backend

HOSTILE_NAMES = ["../../etc/passwd", "/etc/passwd", "..\\..\\x", "C:\\x", "%2e%2e%2fx", "~root", "a\0b", ESCAPES]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def record(backend: Backend, store: Path, name: str, content: bytes) -> str:
    """A run ``calm-otter-12`` with this file; returns its digest."""
    digest = put(LocalArtifacts(store / "artifacts"), store.parent, content)
    Recording(backend, "calm-otter-12").artifact(name, digest=digest, size_bytes=len(content))
    return digest


def test_list(backend: Backend, store: Path) -> None:
    """Every file of a run, with its digest or why it has none."""
    digest = record(backend, store, "model.pt", b"weights")
    text = looptap("artifact", "list", "calm-otter-12").stdout
    assert "model.pt" in text
    assert digest[:12] in text
    found = json.loads(looptap("artifact", "list", "--json").stdout)
    assert [(item["name"], item["digest"]) for item in found] == [("model.pt", digest)]
    Recording(backend, "empty")
    assert looptap("artifact", "list", "empty").stdout == "empty has no artifacts\n"
    Recording(backend, "lossy").artifact("big.pt", digest=None, missing="too_large")
    assert "not kept: too_large" in looptap("artifact", "list", "lossy").stdout


def test_get(backend: Backend, store: Path, here: Path) -> None:
    """By name or digest, here, to a file or into a folder; a file that is there is replaced with --force only."""
    digest = record(backend, store, "out/model.pt", b"weights")
    assert looptap("artifact", "get", "latest", "out/model.pt").stdout == "out/model.pt (7 B) → model.pt\n"
    again = looptap("artifact", "get", "latest", digest[:10])
    assert again.exit_code == 2
    assert again.stderr == "looptap: model.pt is there already; replace it with --force or name another with -o\n"
    (here / "model.pt").write_bytes(b"other")
    assert looptap("artifact", "get", "latest", digest[:10], "--force").exit_code == 0
    assert looptap("artifact", "get", "calm-otter-12", digest, "-o", "copy").exit_code == 0
    (here / "folder").mkdir()
    assert looptap("artifact", "get", "calm-otter-12", digest, "-o", "folder").exit_code == 0
    assert looptap("artifact", "get", "calm-otter-12", digest, "-o", "new/models/").exit_code == 0
    for path in ("model.pt", "copy", "folder/model.pt", "new/models/model.pt"):
        assert hashlib.sha256((here / path).read_bytes()).hexdigest() == digest


def test_get_by_digest_alone(backend: Backend, store: Path, here: Path) -> None:
    """A SHA-256, or what begins one only, finds the file whoever wrote it; anything else needs its run, and is told so."""
    digest = record(backend, store, "out/model.pt", b"weights")
    assert looptap("artifact", "get", digest).stdout == "out/model.pt (7 B) → model.pt\n"
    assert (here / "model.pt").read_bytes() == b"weights"
    (here / "model.pt").unlink()
    assert looptap("artifact", "get", digest[:12]).stdout == "out/model.pt (7 B) → model.pt\n"
    twin = digest[:8] + "0" * 56
    Recording(backend, "twin").artifact("twin.pt", digest=twin)
    Recording(backend, digest[:20])
    for which, message in (
        ("0" * 64, "no run has a file"),
        ("0" * 12, "no run has a file"),
        ("latest", "which file of latest?"),
        (digest[:20], "which file of"),
        (digest[:6], "2 files have a SHA-256 that begins with"),
        (digest[:5], "there is no run"),
    ):
        refused = looptap("artifact", "get", which)
        assert refused.exit_code == 2
        assert message in refused.stderr


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_of_a_run_is_never_a_path(backend: Backend, store: Path, here: Path, name: str) -> None:
    """Whatever a run called its file, it lands here under a clean name, and the terminal obeys nothing of it."""
    digest = record(backend, store, name, b"weights")
    before = set(here.parent.rglob("*"))
    result = looptap("artifact", "get", "latest", digest)
    assert result.exit_code == 0
    assert not {"\x1b", "\x9b", "\u202e", "\0"} & set(result.stdout)
    (new,) = set(here.parent.rglob("*")) - before
    assert new.parent == here
    assert new.read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["get", "latest", "none.pt"],
            "the run has no artifact 'none.pt'; it has: model.pt. See them all: looptap art",
        ),
        (["get", "nobody", "model.pt"], "there is no run 'nobody'"),
        (["get", "latest", "model.pt", "-o", "nowhere/x"], "cannot write nowhere/x: No such file or directory"),
        (["list", "nobody"], "there is no run 'nobody'"),
        (["list", "--store", "nowhere"], "there is no store at "),
    ],
)
def test_mistakes_are_one_line(backend: Backend, store: Path, here: Path, arguments: list[str], message: str) -> None:
    """What is wrong is told in one line on the error stream, with exit code 2."""
    record(backend, store, "model.pt", b"weights")
    result = looptap("artifact", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"looptap: {message}")
    assert result.stderr.count("\n") == 1


def test_content_that_is_gone_or_damaged(backend: Backend, store: Path, here: Path) -> None:
    """Both are told, and no file is made."""
    digest = record(backend, store, "model.pt", b"weights")
    kept = store / "artifacts" / digest[:2] / digest[2:4] / digest
    kept.write_bytes(b"WEIGHTS")
    assert "nothing was written: artifact" in looptap("artifact", "get", "latest", "model.pt").stderr
    kept.unlink()
    assert "is no longer in the store" in looptap("artifact", "get", "latest", "model.pt").stderr
    assert list(here.iterdir()) == []


def test_an_artifact_store_that_is_away(
    backend: Backend, store: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong address in LOOPTAP_ARTIFACT_STORE is told in one line."""
    record(backend, store, "model.pt", b"weights")
    monkeypatch.setenv("LOOPTAP_ARTIFACT_STORE", "ftp://host/x")
    result = looptap("artifact", "get", "latest", "model.pt")
    assert result.exit_code == 2
    assert result.stderr.startswith("looptap: artifacts cannot be kept at ftp://…")
