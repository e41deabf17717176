"""``looptap server`` as a process: how it starts, where it listens, what it survives."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trustme

from collector.server.collectors import MEDIA_TYPE, Process, body_of, server_process
from looptap_collector.stores import open_store
from looptap_collector.testing.batches import Journal, points, started


def send(running: Process, body: bytes, client: httpx.Client | None = None) -> httpx.Response:
    headers = {
        "authorization": f"Bearer {running.token}",
        "content-type": MEDIA_TYPE,
        "content-encoding": "zstd",
    }
    post = httpx.post if client is None else client.post
    more = {"trust_env": False} if client is None else {}
    return post(f"{running.address}/v1/batches", content=body, headers=headers, timeout=30, **more)  # type: ignore[arg-type]


def refused(tmp_path: Path, *words: str) -> str:
    """The one line that a start with these words gives."""
    done = subprocess.run(
        [sys.executable, "-m", "looptap.cli", "server", "--port", "0", "--store", str(tmp_path / "store"), *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
        timeout=60,
    )
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("looptap: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_it_starts_tells_how_and_keeps_what_it_is_sent(tmp_path: Path) -> None:
    """It prints where the token is and where it listens, takes a batch with that token, and ends with SIGTERM; all is stored."""
    with server_process(tmp_path) as running:
        path = tmp_path / "config" / "looptap" / "token"
        assert running.printed[0] == f"looptap: token of this machine's user in {path}\n"
        assert running.printed[1].startswith("looptap: collecting at http://127.0.0.1:")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert send(running, body_of(Journal().batch(started()))).json() == {"outcome": "stored"}
        running.process.send_signal(signal.SIGTERM)
        _, errors = running.process.communicate(timeout=30)
        assert errors == ""
    store = open_store(str(tmp_path / "store"), create=False)
    assert [run.name for run in store.runs()] == ["calm-otter-12"]
    store.close()


def test_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    """No traceback, exit code 0."""
    with server_process(tmp_path) as running:
        running.process.send_signal(signal.SIGINT)
        _, errors = running.process.communicate(timeout=30)
        assert (running.process.returncode, errors) == (0, "")


def test_it_is_not_open_to_others_by_accident(tmp_path: Path) -> None:
    """Another address than loopback needs TLS or a proxy, and tokens; what is missing is said in one line."""
    assert "--tls-cert" in refused(tmp_path, "--host", "0.0.0.0")
    assert "--behind-proxy" in refused(tmp_path, "--host", "192.0.2.1")
    assert "loopback only" in refused(tmp_path, "--host", "0.0.0.0", "--behind-proxy", "--insecure-no-auth")
    assert "belong together" in refused(tmp_path, "--tls-cert", "x.pem")
    assert "no file" in refused(tmp_path, "--tls-cert", "x.pem", "--tls-key", "y.pem")
    assert "cannot listen" in refused(tmp_path, "--host", "192.0.2.1", "--behind-proxy")


def test_tls(tmp_path: Path) -> None:
    """With a certificate it speaks TLS and nothing else."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with server_process(
        tmp_path, "--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")
    ) as running:
        assert running.address.startswith("https://")
        import ssl

        trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        with httpx.Client(verify=trusting, trust_env=False) as client:
            assert client.get(f"{running.address}/healthz").json() == {"status": "ok"}
            assert send(running, body_of(Journal().batch(started())), client).json() == {"outcome": "stored"}
        with pytest.raises(httpx.HTTPError):
            httpx.get(running.address.replace("https", "http") + "/healthz", trust_env=False)


def test_a_database_is_the_store(tmp_path: Path, postgresql_address: str) -> None:
    """The address comes by option or environment; its password is never printed; where files go must be said."""
    address = postgresql_address.replace("postgres@", "postgres:canary-1234@")
    assert "--artifacts" in refused(tmp_path, "--store", address)
    files = str(tmp_path / "files")
    nobody = "postgresql://postgres:canary-1234@127.0.0.1:1/none"
    assert "canary" not in refused(tmp_path, "--store", nobody, "--artifacts", files)
    with server_process(tmp_path, "--artifacts", files, store=address) as running:
        assert send(running, body_of(Journal().batch(started()))).json() == {"outcome": "stored"}
        running.process.send_signal(signal.SIGTERM)
        out, errors = running.process.communicate(timeout=30)
        assert "canary" not in "".join(running.printed) + out + errors
    environment = {**os.environ, "LOOPTAP_COLLECTOR_STORE": address}
    command = [sys.executable, "-m", "looptap.cli", "token", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
    assert (listed.returncode, "local" in listed.stdout, "canary" in listed.stdout) == (0, True, False)


def test_named_hosts_and_a_proxy(tmp_path: Path) -> None:
    """Behind a proxy it answers to the names that it was given, and to no other."""
    with server_process(tmp_path, "--behind-proxy", "--allow-host", "collector.example.org") as running:
        for host, status in (("collector.example.org", 200), ("other.example.org", 421), ("127.0.0.1", 200)):
            assert (
                httpx.get(f"{running.address}/healthz", headers={"host": host}, trust_env=False).status_code == status
            )


def test_without_tokens_it_warns(tmp_path: Path) -> None:
    """``--insecure-no-auth`` asks nobody, and says so when it starts."""
    with server_process(tmp_path, "--insecure-no-auth") as running:
        assert httpx.get(f"{running.address}/v1/runs", trust_env=False).json() == {"runs": [], "next": None}
        assert running.process.stdout is not None
        assert "WARNING" in running.process.stdout.readline()


def test_token_commands(tmp_path: Path) -> None:
    """Make, list and revoke, while a server runs on the store; the text of a token is shown once and never again."""

    def looptap(*words: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "looptap.cli",
            "token",
            words[0],
            "--store",
            str(tmp_path / "store"),
            *words[1:],
        ]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)

    with server_process(tmp_path) as running:
        token = looptap("create", "dashboard", "--scope", "read", "--days", "2").stdout.strip()
        headers = {"authorization": f"Bearer {token}"}
        assert httpx.get(f"{running.address}/v1/runs", headers=headers, trust_env=False).status_code == 200
        listed = looptap("list")
        assert listed.returncode == 0
        assert "dashboard" in listed.stdout
        assert token not in listed.stdout
        (id,) = [line.split()[1] for line in listed.stdout.splitlines() if "dashboard" in line]
        assert looptap("revoke", id).returncode == 0
        assert looptap("revoke", "nothing").returncode == 2
        deadline = time.monotonic() + 10
        while httpx.get(f"{running.address}/v1/runs", headers=headers, trust_env=False).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert looptap("create", "local").returncode == 2
    nonsense = looptap("create", "me", "--store", "htp://x")
    assert (nonsense.returncode, nonsense.stderr.count("\n")) == (2, 1)


@pytest.mark.timeout(1200)
def test_killed_again_and_again_nothing_acknowledged_is_lost(tmp_path: Path, times: Callable[[int], int]) -> None:
    """Fault 3: 200 times ``kill -9`` at random points of commits, and a start after each. Agents send again what was not answered:
    all points are there exactly once, and what was acknowledged at the moment of a kill is there before anything is sent again."""
    chance = random.Random(3)
    agents = [Journal(f"j{number}", f"r{number}") for number in range(4)]
    unanswered: list[bytes | None] = [None] * 4
    acknowledged = [0] * 4
    sent = [0] * 4
    deaths = times(200)
    for death in range(deaths + 1):
        with server_process(tmp_path) as running:
            store = open_store(str(tmp_path / "store"), create=False)
            for number in range(4):
                assert store.position(f"j{number}") >= acknowledged[number]
            store.close()

            def deliver(number: int, running: Process = running, last: bool = death == deaths) -> None:
                with httpx.Client(trust_env=False) as client:
                    for _ in range(3 if last else 1_000):
                        body = unanswered[number]
                        if body is None:
                            journal = agents[number]
                            records = [started(journal.run)] if sent[number] == 0 else []
                            steps = range(sent[number], sent[number] + 40)
                            body = body_of(
                                journal.batch(*records, series=[points("x", steps, [step / 3 for step in steps])])
                            )
                            sent[number] += 40
                            unanswered[number] = body
                        try:
                            answer = send(running, body, client)
                        except httpx.HTTPError:
                            return
                        assert answer.json()["outcome"] in ("stored", "duplicate")
                        unanswered[number] = None
                        acknowledged[number] = agents[number].next

            threads = [threading.Thread(target=deliver, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            if death < deaths:
                time.sleep(chance.uniform(0.0, 0.25))
                running.process.kill()
            for thread in threads:
                thread.join()
    store = open_store(str(tmp_path / "store"), create=False)
    for number, journal in enumerate(agents):
        assert store.position(f"j{number}") == journal.next
        assert store.history(f"r{number}", "x", {}).steps.tolist() == list(range(sent[number]))
    store.close()
