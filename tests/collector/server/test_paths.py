"""No name that a client sends ever becomes a path: whatever is asked, only files of the store are opened."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.server.collectors import MEDIA_TYPE, Collector, collecting
from collector.server.test_access import EXPECTED, METHODS
from looptap.events import Artifact, RunEnded, Tag
from looptap_collector.testing.batches import Journal, points, started

NAMES = [
    "../../etc/passwd",
    "..\\..\\x",
    "%2e%2e%2f%2e%2e%2fetc/passwd",
    "%252e%252e%252f",
    ";/../",
    "http:///#/../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "\\\\host\\share",
    "file:///etc/passwd",
    "~root",
    "\r\nSet-Cookie: a=b",
    "\u202e",
    "e\u0301",
    "\u00e9",
    "🦦" * 120,
    "__proto__",
    "constructor",
    "' OR 1=1--",
    '"; DROP TABLE run; --',
    "{{7*7}}",
    "${7*7}",
    "__class__.__bases__",
    "(SELECT 1)",
]
_PARAMETERS = {
    "/v1/runs": ("filter", "order", "cursor"),
    "/v1/histories": ("run", "key", "context"),
    "/v1/edges": ("run", "kind", "role", "artifact"),
    "/v1/lineage": ("run", "artifact"),
    "/v1/live": ("run",),
}
_FILE_EVENTS = {
    "open",
    "os.listdir",
    "os.scandir",
    "os.mkdir",
    "os.rmdir",
    "os.remove",
    "os.rename",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "sqlite3.connect",
}
_NEVER = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.getaddrinfo", "pickle.find_class"}
#: Of a folder that is open already: the names that the stores of files make of a digest and an owner.
_OURS = re.compile(r"(tmp|objects|sha256|uploads|[0-9a-f]{2}|[0-9a-f]{16}-)?[0-9a-f.-]{0,80}(\.tmp)?\Z")

_seen: list[tuple[str, Any]] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    # An audit hook stays for the life of the process; it sees nothing unless a test is watching.
    if _seen is not None and (event in _FILE_EVENTS or event in _NEVER):
        _seen.append((event, arguments[0] if arguments else None))


@pytest.fixture
def seen() -> Iterator[list[tuple[str, Any]]]:
    global _seen
    if not getattr(sys, "looptap_watches", False):
        sys.addaudithook(_watch)
        sys.looptap_watches = True  # type: ignore[attr-defined]
    _seen = []
    yield _seen
    _seen = None


def outside(seen: list[tuple[str, Any]], root: Path) -> list[tuple[str, Any]]:
    """What was opened that is neither of the store nor a module of Python."""
    found = []
    for event, path in seen:
        if isinstance(path, int) or (event, path) == ("socket.getaddrinfo", "127.0.0.1"):
            continue  # what is open already, and the clients of this test
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else repr(path)
        is_module = event in ("open", "os.listdir") and (
            text.endswith((".py", ".pyc", ".so", ".pyi")) or any(part and text.startswith(part) for part in sys.path)
        )
        is_ours = Path(text).is_relative_to(root) if os.path.isabs(text) else bool(_OURS.match(text))
        if event in _NEVER or not (is_ours or is_module or text.startswith("/dev/")):
            found.append((event, path))
    return found


def test_the_watch_sees_what_it_should(seen: list[tuple[str, Any]], tmp_path: Path) -> None:
    """A file outside of the root, and a relative one, are noticed; one inside is fine."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("")
    assert outside(seen, tmp_path) == []
    Path("/etc/passwd").read_bytes()
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        os.open("../no/such", os.O_RDONLY, dir_fd=folder)
    os.close(folder)
    assert [path for _, path in outside(seen, tmp_path)] == ["/etc/passwd", "../no/such"]


def test_1_to_8_no_name_opens_a_file(seen: list[tuple[str, Any]], tmp_path: Path) -> None:
    """Every name in every place of every route with every method, and in every field of a batch: nothing outside of the store
    is opened, listed, made, run or resolved, and nothing fails."""
    root = tmp_path / "store"
    with collecting(root) as running:
        client = running.client("admin")
        client.get("/healthz")
        seen.clear()
        deliver(running)
        for (method, path), name in ((route, name) for route in EXPECTED for name in NAMES):
            address = re.sub(r"\{.*?\}", "{}", path)
            for written in {quoted(name), name.encode("ascii", "ignore").decode().replace("\r\n", "%0d%0a")}:
                target = address.format(written) if "{}" in address else f"{address}?{everywhere(written)}"
                status = spoken_status(running, method, target)
                assert status != 500, (method, target)
        for name in NAMES:
            for path, parameters in _PARAMETERS.items():
                for parameter in parameters:
                    answer = client.get(path, params={"run": "r0", "key": "x", parameter: name})
                    assert answer.status_code in (200, 404, 422), (path, parameter, name)
            for header in ("content-range", "range", "content-encoding", "content-type", "accept"):
                told = {header: name.encode("ascii", "ignore").decode().strip()}
                assert client.put("/v1/artifacts/" + "0" * 64, content=b"x", headers=told).status_code < 500
                assert client.get("/v1/artifacts/" + "0" * 64, headers=told).status_code < 500
        assert outside(seen, root) == []
        assert [row.name for row in running.store.runs()] == list(reversed(NAMES))


def deliver(running: Collector) -> None:
    for number, name in enumerate(NAMES):
        journal = Journal(f"{name[:60]}{number}", f"r{number}")
        batch = journal.batch(
            started(f"r{number}", name=name, experiment=name, script=name, working_directory=name, time_ns=number),
            Tag(name, name, 1),
            Artifact(name, 1, 3, digest="ab" * 32, path=name, media_type=name[:60]),
            Artifact(name, 1, 3, missing=name, path=name, description=name),
            RunEnded("failed", 5, name),
            series=[points(name, [1], [1.0], {name: name})],
        )
        assert running.send(batch).status_code == 200


def quoted(name: str) -> str:
    return "".join(f"%{byte:02x}" for byte in name.encode())


def everywhere(written: str) -> str:
    return "&".join(f"{parameter}={written}" for parameter in ("run", "key", "filter", "path", "file", "url"))


def spoken_status(running: Collector, method: str, target: str) -> int:
    """Past all clients that would put an address in order. 0 where the connection was closed without an answer."""
    host, _, port = running.address.removeprefix("http://").partition(":")
    token = running.tokens["admin"]
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"{head}Content-Type: {MEDIA_TYPE}\r\nContent-Length: 0\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    assert b"Set-Cookie" not in answer.partition(b"\r\n\r\n")[0]
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_a_name_that_is_a_path_of_the_server(seen: list[tuple[str, Any]], tmp_path: Path) -> None:
    """Every method on addresses that climb: refused like any other that is not there, and no file is touched."""
    root = tmp_path / "store"
    with collecting(root) as running:
        running.client("admin").get("/healthz")
        seen.clear()
        for target in (
            "/../../etc/passwd",
            "/v1/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/v1/artifacts/../../x",
            "//etc",
        ):
            for method in METHODS:
                assert spoken_status(running, method, target) in (400, 404, 405), (method, target)
        assert outside(seen, root) == []
