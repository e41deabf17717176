"""``looptap store …`` as a user types it, in a process of its own, and on real databases."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from collector.recorded import Recording, complete_run
from looptap.events import Artifact
from looptap_collector.backend import Backend
from looptap_collector.backends import schema
from looptap_collector.backends.sqlite import APPLICATION_ID
from looptap_collector.embedded import ARTIFACTS, DATABASE
from looptap_collector.testing.batches import Journal, points, started, write
from looptap_collector.testing.contracts.long_windows import ago, deliver, each_ten_seconds
from programs import Programs

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def keep_file(store: Path, digest: str = DIGEST, content: bytes = CONTENT, *, age_s: float = 0) -> Path:
    path = store / ARTIFACTS / digest[:2] / digest[2:4] / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def long_run(backend: Backend, run: str = "long") -> None:
    journal = Journal(f"j-{run}", run)
    write(backend, journal.batch(started(run, name=run), Artifact("m.pt", 1, len(CONTENT), digest=DIGEST)))
    for turn in range(10):
        write(backend, journal.batch(series=[points("x", range(turn * 3_000, turn * 3_000 + 3_000), [0.5] * 3_000)]))


def said(programs: Programs, *words: str, code: int = 0) -> str:
    """What a command printed; mistakes and problems are on stderr, one line each, never a traceback."""
    done = programs.looptap("store", *words)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_migrate_says_what_it_did(programs: Programs, store: Path) -> None:
    """An older store is upgraded and told from where to where; then there is nothing to do."""
    store.mkdir()
    engine = create_engine(f"sqlite:///{store / DATABASE}")
    with engine.begin() as connection:
        schema.upgrade(connection, "0001")
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
    engine.dispose()
    assert f"upgraded from 0001 to {schema.HEAD}" in said(programs, "migrate")
    assert f"nothing to do, its tables are at {schema.HEAD}" in said(programs, "migrate", str(store))


def test_migrate_makes_the_tables_of_a_database(programs: Programs, postgresql_address: str) -> None:
    """The same for a database; its address is told without credentials."""
    address = postgresql_address.replace("postgres@", "postgres:secret@")
    first = said(programs, "migrate", address)
    assert f"tables made, at {schema.HEAD}" in first
    assert "nothing to do" in said(programs, "migrate", address)
    assert "secret" not in first


@pytest.mark.parametrize("words", [["migrate"], ["check"], ["compact"], ["gc"], ["copy", "nowhere", "elsewhere"]])
def test_a_store_that_is_not_there(programs: Programs, words: list[str]) -> None:
    """One line, and nothing is made."""
    told = said(programs, *words, code=2)
    assert "no looptap store in" in told
    assert len(told.splitlines()) == 1
    assert not [path for path in programs.folder.rglob("*") if path.name in (DATABASE, "elsewhere")]


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "redis://x/y", "postgresql://127.0.0.1:1/none"])
def test_an_address_that_is_no_store(programs: Programs, address: str) -> None:
    """A collector, another kind of server, one that is not there: one line."""
    told = said(programs, "check", address, code=2)
    assert told.startswith("looptap: ")
    assert len(told.splitlines()) == 1


def test_check_of_a_good_store(programs: Programs, backend: Backend, store: Path) -> None:
    """Nothing is wrong: exit code 0."""
    long_run(backend)
    keep_file(store)
    for words in ([], ["--content"], [str(store)]):
        assert said(programs, "check", *words) == "everything fits together\n"


def test_check_tells_each_problem_in_a_line(programs: Programs, backend: Backend, store: Path) -> None:
    """With how to mend it; exit code 1. Text of a run cannot do anything to the terminal."""
    long_run(backend)
    Recording(backend, "bad", run="evil").points("k\x1b[31m\nx", [1.0])
    keep_file(store, content=b"other")
    assert said(programs, "check") == "everything fits together\n"
    with closing(sqlite3.connect(store / DATABASE, isolation_level=None)) as spoiler:
        spoiler.execute("UPDATE chunk SET data = x'01' WHERE part = 0")
    lines = said(programs, "check", "--content", code=1).splitlines()
    assert len(lines) == 4
    assert "\x1b" not in "".join(lines)
    assert all(" → " in line for line in lines[:3])
    assert any("run long (long), series x {}, chunk 0 (steps 0 to 2999)" in line for line in lines)
    assert any(f"artifact {DIGEST}" in line and "put the file back" in line for line in lines)
    assert lines[3] == "3 problems"


def test_compact(programs: Programs, backend: Backend, store: Path) -> None:
    """Chunks of one run or of all become long ones; a second time there is nothing to do; deleted runs give space back."""
    for run in ("one", "two"):
        long_run(backend, run)
    exact = backend.history("one", "x", {})
    assert "10 chunks became 1 long one in 1 series, 1 outline made" in said(programs, "compact", "--run", "two")
    assert "nothing to do" in said(programs, "compact", "--run", "two")
    assert "there is no run 'nope'" in said(programs, "compact", "--run", "nope", code=2)
    assert "10 chunks became 1 long one in 1 series" in said(programs, "compact", str(store))
    assert "nothing to do" in said(programs, "compact")
    assert backend.history("one", "x", {}).steps.tobytes() == exact.steps.tobytes()
    with closing(sqlite3.connect(store / DATABASE, isolation_level=None)) as spoiler:
        spoiler.execute(
            "INSERT INTO note (run, topic, message, time_ns) VALUES ('one', 't', hex(randomblob(500000)), 1)"
        )
        spoiler.execute("DELETE FROM note WHERE topic = 't'")
    assert re.search(r"the file is [\d,]{7,} bytes smaller", said(programs, "compact"))


def test_compact_merges_old_windows(programs: Programs, backend: Backend) -> None:
    """Of one run or of all; one that cannot be read stays, and is told."""
    for run in ("one", "two"):
        deliver(backend, Journal(f"j-{run}", run), each_ten_seconds(ago(3), 60))
    assert said(programs, "compact", "--run", "one") == "60 windows of serving became 1 longer one\n"
    with closing(sqlite3.connect(programs.store / DATABASE, isolation_level=None)) as spoiler:
        spoiler.execute(f"UPDATE serving_window SET told = x'01' WHERE run = 'two' AND time_ns = {ago(3)}")
    told = said(programs, "compact")
    assert "59 windows of serving became 1 longer one\n" in told
    assert "1 window cannot be read, left as found: looptap store check" in told
    assert "nothing to do" in said(programs, "compact", "--run", "one")
    assert sorted(lengths_of_rows(programs.store)) == [0, 600, 600]


def lengths_of_rows(store: Path) -> list[int]:
    with closing(sqlite3.connect(store / DATABASE)) as reader:
        return [stretch for (stretch,) in reader.execute("SELECT stretch FROM serving_window")]


def test_gc_looks_first(programs: Programs, backend: Backend, store: Path) -> None:
    """Without --yes nothing goes; with it, only old files that no run refers to."""
    long_run(backend)
    kept = keep_file(store, age_s=10**6)
    young = keep_file(store, "cd" * 32, b"young")
    unused = keep_file(store, "ef" * 32, b"unused", age_s=10**6)
    told = said(programs, "gc")
    assert "ef" * 32 in told
    assert "1 file of no run (6 bytes), 2 stay; delete with --yes" in told
    assert unused.exists()
    assert "1 file deleted (6 bytes), 2 stay" in said(programs, "gc", "--yes")
    assert (kept.exists(), young.exists(), unused.exists()) == (True, True, False)
    backend.delete_run("long")
    assert "2 files deleted (12 bytes), 0 stay" in said(programs, "gc", "--yes", "--older-than", "0")


def test_gc_of_a_database_must_be_told_where(programs: Programs, postgresql_address: str, tmp_path: Path) -> None:
    """Its files are elsewhere."""
    assert "tell where with --artifacts" in said(programs, "gc", postgresql_address, code=2)
    unused = keep_file(tmp_path, "ef" * 32, age_s=10**6)
    artifacts = str(tmp_path / ARTIFACTS)
    assert "1 file deleted" in said(programs, "gc", postgresql_address, "--artifacts", artifacts, "--yes")
    assert not unused.exists()


def test_copy_between_folders_and_databases(
    programs: Programs, backend: Backend, store: Path, tmp_path: Path, mariadb_address: str
) -> None:
    """Runs and files, with a checksum of each that both sides found by themselves; again, it is all there."""
    long_run(backend)
    complete_run(backend)
    keep_file(store)
    keep_file(store, "ab" * 32)
    files = str(tmp_path / "files")
    first = said(programs, "copy", str(store), mariadb_address, "--to-artifacts", files, code=1)
    lines = first.splitlines()
    assert re.fullmatch(r"[0-9a-f]{64} long long: 30,000 points, copied, equal", lines[0])
    assert re.fullmatch(r"[0-9a-f]{64} run-calm-otter-12 calm-otter-12: 1,500 points, copied, equal", lines[1])
    assert f"artifact {'ab' * 32} has other content" in lines[2], "a damaged file is not copied"
    assert lines[3] == "1 file copied, 0 there before"
    back = tmp_path / "back"
    second = said(programs, "copy", mariadb_address, str(back), "--artifacts", files, code=1).splitlines()
    assert second[:2] == lines[:2]
    assert (back / ARTIFACTS / DIGEST[:2] / DIGEST[2:4] / DIGEST).read_bytes() == CONTENT
    third = said(programs, "copy", str(store), str(back), "--no-files").splitlines()
    assert [line.split()[0] for line in third[:2]] == [line.split()[0] for line in lines[:2]]
    assert all("was there, equal" in line for line in third[:2])
    assert third[2] == "2 runs are equal in both"
    assert "files stay where they are; give --to-artifacts to take them along" in said(
        programs, "copy", str(store), mariadb_address
    )
    assert "files are not looked for" in said(programs, "check", mariadb_address)
    assert said(programs, "check", mariadb_address, "--artifacts", files, code=1).count("is not there") == 1


def test_copy_refuses_what_would_be_mixed_up(programs: Programs, backend: Backend, store: Path, tmp_path: Path) -> None:
    """Other runs in the target need --merge; a store cannot be copied onto itself."""
    long_run(backend)
    keep_file(store)
    other = tmp_path / "other"
    said(programs, "copy", str(store), str(other))
    complete_run(backend)
    told = said(programs, "copy", str(other), str(store), code=2)
    assert "has 1 runs that" in told
    assert "--merge" in told
    assert "1 run is equal in both" in said(programs, "copy", str(other), str(store), "--merge")
    assert "are the same store" in said(programs, "copy", str(store), str(store) + "/", code=2)


def test_help_needs_no_store() -> None:
    """What there is is told at once, without the library of a store."""
    code = (
        "import sys; from looptap.cli import main; sys.argv = ['looptap', 'store', '--help']\ntry: main()\nfinally: "
        "print('sqlalchemy' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("migrate", "check", "compact", "gc", "copy"):
        assert name in told
    assert told.splitlines()[-1] == "False"
