"""Whole programs whose store is a collector: how they end when it does not answer, and what they say. Bounds of waiting are
generous: an exit takes ``exit_timeout`` (5 s) at most, and the interpreter's own end comes on top."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from agent.collectors import TOKEN, Collector, serving
from collector.server.collectors import server_process
from faultproxy import FaultProxy, answer, dripping, forever, full_backlog, passing, refusal, silent
from looptap.journal.folder import find_journals, read_meta
from looptap.journal.reader import JournalReader, tail_position
from programs import ALL_INTEGRATIONS, Programs, assert_conserved

POINTS = 200
PROGRAM = f"""
import looptap
looptap.autolog()
token = "{TOKEN}"
looptap.log_param("token", token)
looptap.log_param("note", "uses " + token)
looptap.log_param("secret_of", {{"token": token}})
for step in range({POINTS}):
    looptap.log_metric("loss", step / 7, step=step)
print("recorded", flush=True)
"""
SLOW_NAMES = """
import socket, time
real = socket.getaddrinfo
def never(host, *arguments, **more):
    if host == "collector.example":
        time.sleep(60)
    return real(host, *arguments, **more)
socket.getaddrinfo = never
"""


def ends(programs: Programs, store: str, before: str = "", **more: str) -> str:
    """Run the program with this store until it has ended by itself; returns what it said on stderr."""
    process = programs.start(before + PROGRAM, LOOPTAP_STORE=store, LOOPTAP_TOKEN=TOKEN, launched=False, **more)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "recorded\n"
        _, said = process.communicate(timeout=30 if more else 9)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0
    assert "Traceback" not in said
    return said


def journals(programs: Programs) -> list[Path]:
    root = programs.folder / "state" / "looptap" / "journal"
    return find_journals(root) if root.exists() else []


def assert_delivered_later(programs: Programs, tmp_path: Path, port: int) -> None:
    """With a collector at that port, `looptap sync` delivers everything that is in the journal, and removes it."""
    (journal,) = journals(programs)
    emitted = tail_position(journal)
    with serving(tmp_path / "collector", port) as collector:
        done = programs.looptap("sync", LOOPTAP_TOKEN=TOKEN)
        assert done.stdout.startswith(f"delivered {emitted:,} records of 1 run ("), done.stderr
        assert done.returncode == 0
        (run,) = collector.backend.runs()
        assert run.status == "finished"
        found = collector.delivery(run.run)
        assert (found.next, found.stored, found.dropped) == (emitted, emitted, {})
        assert collector.steps(run.run) == list(range(POINTS))
    assert journals(programs) == []


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_run_on_a_collector(programs: Programs, collector: Collector) -> None:
    """Everything arrives, the line at the start names the collector, and nothing is left behind."""
    said = ends(programs, collector.url, LOOPTAP_EXIT_TIMEOUT="25")  # more than a busy machine needs
    (run,) = collector.backend.runs()
    assert run.status == "finished"
    assert collector.steps(run.run) == list(range(POINTS))
    assert f"looptap: run {run.name} → {collector.url}\n" in said
    assert f"{POINTS} points stored, 0 dropped\n" in said
    assert journals(programs) == []


def test_collector_that_was_never_up(programs: Programs, tmp_path: Path) -> None:
    """Case 1: the program ends, the journal has everything, and sync delivers it once there is a collector."""
    port = free_port()
    said = ends(programs, f"http://127.0.0.1:{port}")
    waiting = tail_position(journals(programs)[0])
    assert f"{waiting:,} records are safe in the journal: http://127.0.0.1:{port} cannot be reached: Conn" in said
    assert said.endswith(" · deliver them with: looptap sync\n")
    kept = programs.looptap("sync", LOOPTAP_TOKEN=TOKEN)
    assert "cannot be reached" in kept.stderr
    assert (kept.stdout, kept.returncode) == ("", 1)
    assert_delivered_later(programs, tmp_path, port)


@contextlib.contextmanager
def stalled_tls() -> Iterator[str]:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await forever()

    with FaultProxy("127.0.0.1", 1) as proxy:
        proxy.on_connect = nothing
        yield f"https://127.0.0.1:{proxy.port}"


@contextlib.contextmanager
def drips() -> Iterator[str]:
    with FaultProxy("127.0.0.1", 1) as far, FaultProxy("127.0.0.1", far.port) as proxy:
        far.behave(answer(200, b'{"next": 0}'))
        proxy.behave(dripping())
        yield proxy.url


@contextlib.contextmanager
def says_nothing() -> Iterator[str]:
    with FaultProxy("127.0.0.1", 1) as proxy:
        proxy.behave(silent)
        yield proxy.url


@contextlib.contextmanager
def drops_syn() -> Iterator[str]:
    with full_backlog() as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def wants_peace() -> Iterator[str]:
    with FaultProxy("127.0.0.1", 1) as proxy:
        proxy.behave(refusal(503, "busy", retry_after=200))
        yield proxy.url


@pytest.mark.parametrize("network", [drops_syn, says_nothing, drips, stalled_tls, wants_peace])
def test_exit_is_bounded(programs: Programs, network: object) -> None:
    """Cases 6, 12, 13 and 15: whatever the network does, the program ends in time and the journal has everything."""
    assert callable(network)
    with network() as store:
        said = ends(programs, store)
        assert "records are safe in the journal" in said
        (journal,) = journals(programs)
        assert JournalReader(journal, journal=journal.name).read(2**30)
        assert tail_position(journal) > POINTS


def test_names_that_do_not_resolve_in_time(programs: Programs) -> None:
    """Case 14: a look-up that hangs for a minute does not hold the exit."""
    said = ends(programs, "https://collector.example", SLOW_NAMES)
    assert "records are safe in the journal" in said
    assert tail_position(journals(programs)[0]) > POINTS


def test_certificate_that_nobody_signed(programs: Programs, collector: Collector) -> None:
    """Case 15: one line, once, that says what is wrong and how to mend it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with FaultProxy("127.0.0.1", collector.port, tls=context) as proxy:
        said = ends(programs, proxy.url)
    warnings = [line for line in said.splitlines() if "until then, records wait in the journal" in line]
    assert len(warnings) == 1
    assert "is not trusted" in warnings[0]
    assert "REQUESTS_CA_BUNDLE" in warnings[0]


def test_token_is_nowhere(programs: Programs, proxy: FaultProxy, tmp_path: Path) -> None:
    """Case 38 of the hostile inputs: the token is in no journal, in nothing that is printed, and in no store, though the program
    itself records it."""
    proxy.behave(refusal(401, "unauthenticated"))
    said = ends(programs, proxy.url)
    assert said.count("does not let us in") == 2  # the warning, and the summary at the end
    (journal,) = journals(programs)
    canary = TOKEN.encode()
    for file in journal.iterdir():
        assert canary not in file.read_bytes(), file
    refused = programs.looptap("sync", LOOPTAP_TOKEN=TOKEN)
    proxy.behave(passing)
    synced = programs.looptap("sync", LOOPTAP_TOKEN=TOKEN)
    for words in (said, refused.stdout, refused.stderr, synced.stdout, synced.stderr):
        assert TOKEN not in words
    assert journals(programs) == []
    for path in (tmp_path / "collector").rglob("*"):
        assert path.is_dir() or canary not in path.read_bytes(), path


@pytest.mark.parametrize(
    "address", ["https://me:s3cret@127.0.0.1:1", "https://127.0.0.1:1/?key=s3cret", "postgresql://me:s3cret@db/x"]
)
def test_address_with_a_secret(programs: Programs, address: str) -> None:
    """An address that holds a password is refused in one line without it; the run goes where it would go without the setting."""
    process = programs.python(PROGRAM, LOOPTAP_STORE=address)
    assert process.returncode == 0
    refused = [line for line in process.stderr.splitlines() if "LOOPTAP_STORE: store was left out" in line]
    assert len(refused) == 1
    assert "s3cret" not in process.stderr
    for path in programs.folder.rglob("*"):
        assert path.is_dir() or path.name == "program.py" or b"s3cret" not in path.read_bytes(), path
    assert (programs.folder / ".looptap" / "looptap.db").exists()


def test_address_in_the_journal_has_no_secret(programs: Programs) -> None:
    """What the journal keeps of its store is the address alone."""
    ends(programs, f"HTTP://127.0.0.1:{free_port()}/")
    meta = read_meta(journals(programs)[0])
    assert meta.store.startswith("http://127.0.0.1:")
    assert meta.store.rpartition(":")[2].isdecimal()


def test_nothing_is_called_safe_that_is_not(programs: Programs) -> None:
    """Where there is no journal on disk and no store, the end says how many records were lost, and not that any wait."""
    (programs.folder / "file").write_text("no folder")
    said = ends(
        programs,
        f"http://127.0.0.1:{free_port()}",
        f"import os; os.environ['LOOPTAP_JOURNAL'] = {str(programs.folder / 'file')!r}",
    )
    end = said.splitlines()[-1]
    assert "no_journal)" in end
    assert "safe" not in end
    assert "the store did not take everything: http://127.0.0.1:" in end


def test_one_journal_waits_for_a_silent_collector(programs: Programs) -> None:
    """Of ten journals for a collector that answers nothing, sync asks for the first only."""
    with FaultProxy("127.0.0.1", 1) as proxy:
        proxy.behave(refusal(503, "busy", retry_after=100))
        for _ in range(3):
            ends(programs, proxy.url)
        before = len(proxy.requests)
        kept = programs.looptap("sync", LOOPTAP_TOKEN=TOKEN)
        assert len(journals(programs)) == 3
        assert kept.stderr.count("answers HTTP 503") == 1
        assert len(proxy.requests) == before + 1


def test_doctor_asks_the_collector(programs: Programs, collector: Collector) -> None:
    """One line says whether it answers and lets us in."""

    def doctor(**more: str) -> subprocess.CompletedProcess[str]:
        return programs.looptap("doctor", LOOPTAP_DISABLE=ALL_INTEGRATIONS, **more)

    good = doctor(LOOPTAP_STORE=collector.url, LOOPTAP_TOKEN=TOKEN)
    assert f"store: {collector.url}\n  the collector there answers, and accepts the token\n" in good.stdout
    wrong = doctor(LOOPTAP_STORE=collector.url, LOOPTAP_TOKEN="lt_other")
    assert "! store: " in wrong.stdout
    assert "does not let us in (HTTP 401)" in wrong.stdout
    away = doctor(LOOPTAP_STORE="http://127.0.0.1:1", LOOPTAP_TOKEN=TOKEN)
    assert "! store: http://127.0.0.1:1 cannot be reached: Connection refused" in away.stdout
    database = doctor(LOOPTAP_STORE="postgresql://me:s3cret@db/x")
    assert (
        "! store: LOOPTAP_STORE cannot be used: a database is written and read through its collector" in database.stdout
    )
    assert "\nstore: " not in database.stdout
    assert "s3cret" not in database.stdout
    far = doctor(LOOPTAP_STORE="http://10.255.255.1:1", LOOPTAP_TOKEN=TOKEN)
    assert "LOOPTAP_INSECURE=1" in far.stdout


def test_token_in_the_project_is_not_used(programs: Programs, collector: Collector) -> None:
    """A token in pyproject.toml is refused in one line, without showing it."""
    (programs.folder / "pyproject.toml").write_text(f'[tool.looptap]\ntoken = "{TOKEN}"\ninsecure = true\n')
    said = programs.looptap("doctor", LOOPTAP_STORE=collector.url, LOOPTAP_DISABLE=ALL_INTEGRATIONS).stdout
    assert "! pyproject.toml [tool.looptap]: token was left out: that file is shared; set LOOPTAP_TOKEN instead" in said
    assert "insecure was left out" in said
    assert TOKEN not in said
    assert "(no token is set: LOOPTAP_TOKEN)" in said


def test_looptap_server_on_this_machine(programs: Programs, tmp_path: Path) -> None:
    """The command that users start: a program on the same machine needs its address only, and finds the token by itself."""
    with server_process(tmp_path) as server:
        process = programs.python(PROGRAM, LOOPTAP_STORE=server.address)
        assert process.returncode == 0
        assert f"{POINTS} points stored, 0 dropped\n" in process.stderr
    (run,) = programs.runs()
    assert run["status"] == "finished"
    record = programs.record(run["id"])
    assert record["metrics"]["loss"]["count"] == POINTS
    assert_conserved(record)
    assert journals(programs) == []
