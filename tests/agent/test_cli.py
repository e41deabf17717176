"""What the commands say of journals that wait, and ``looptap sync`` as a user types it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent.journal.scenes import point
from looptap.events import RunStarted
from looptap.journal.folder import JournalMeta, find_journals
from looptap.journal.frames import encode
from looptap.journal.writer import JournalWriter
from programs import ALL_INTEGRATIONS, Programs

AWAY = "http://127.0.0.1:1"
REFUSED = f"{AWAY} cannot be reached: Connection refused"


@pytest.fixture
def root(programs: Programs) -> Path:
    return programs.folder / "state" / "looptap" / "journal"


def left(root: Path, name: str, store: str = AWAY, points: int = 3) -> None:
    """The journal of a run that was killed: a start and so many points."""
    writer = JournalWriter.create(root, JournalMeta.of_this_process(f"id-{name}", name, store))
    writer.append(encode(RunStarted(f"id-{name}", name, "default", time.time_ns())))
    for step in range(points):
        writer.append(point(step))
    writer.close()


def test_one_line_for_each_reason(programs: Programs, root: Path) -> None:
    """Whoever asks for something else hears once why runs wait, and how to deliver them."""
    for number in range(5):
        left(root, f"calm-otter-{number}")
    left(root, "alone\x1b[31m", "https://127.0.0.1:1")
    (root / "broken").mkdir(mode=0o700)
    done = programs.looptap("doctor", LOOPTAP_DISABLE=ALL_INTEGRATIONS)
    broken, alone, many = sorted(done.stderr.splitlines())
    assert alone == (
        "looptap: 1 run (alone [31m) waits to be delivered: https://127.0.0.1:1 cannot be reached: Connection refused"
        " · looptap sync"
    )
    assert broken.startswith(f"looptap: 1 journal ({root / 'broken'}) cannot be delivered: journal.json cannot be read")
    assert many == (
        "looptap: 5 runs (calm-otter-0, calm-otter-1, calm-otter-2, …) wait to be delivered: "
        + REFUSED
        + " · looptap sync"
    )


def test_help_is_nothing_but_help(programs: Programs, root: Path) -> None:
    """Who asks for help neither waits for a store nor hears of journals."""
    left(root, "calm-otter-1", str(programs.store))
    for words in (["runs", "--help"], ["sync", "-h"], ["artifact", "get", "--help"], ["--help"]):
        done = programs.looptap(*words)
        assert (done.returncode, done.stderr) == (0, "")
    assert len(find_journals(root)) == 1


def test_sync_tells_what_it_did(programs: Programs, root: Path) -> None:
    """What was delivered and what had to stay, with exit code 1 for that; nothing is only said of nothing."""
    done = programs.looptap("sync")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing to deliver\n", "")
    left(root, "calm-otter-1", str(programs.store))
    left(root, "brave-lynx-2")
    done = programs.looptap("sync")
    assert done.returncode == 1
    assert done.stdout == "delivered 5 records of 1 run (calm-otter-1)\n"
    assert done.stderr == f"looptap: 1 run (brave-lynx-2) waits to be delivered: {REFUSED}\n"
    done = programs.looptap("sync")
    assert (done.returncode, done.stdout) == (1, "")


def test_sync_to_another_store(programs: Programs, root: Path) -> None:
    """What waits for a store that is gone is delivered to the one that is named; what was meant for none stays nowhere."""
    left(root, "calm-otter-1", points=100)
    left(root, "unwanted", "off")
    done = programs.looptap("sync", "--to", "rescue", LOOPTAP_STORE=AWAY)
    assert done.returncode == 0, done.stderr
    assert "calm-otter-1" in done.stdout
    assert find_journals(root) == []
    shown = programs.looptap("runs", "--json", LOOPTAP_STORE=str(programs.folder / "rescue"))
    assert '"calm-otter-1"' in shown.stdout
    assert '"points": 100' in shown.stdout
    assert "unwanted" not in shown.stdout


@pytest.mark.parametrize("store", ["postgresql://me:hunter2@db/x", "htp://hunter2", "http://host/hunter2", "off"])
def test_sync_to_no_store(programs: Programs, root: Path, store: str) -> None:
    """A place that cannot be used is refused before anything is delivered."""
    left(root, "calm-otter-1", str(programs.store))
    done = programs.looptap("sync", "--to", store)
    assert done.returncode == 2
    assert done.stderr.startswith("looptap: --to ")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr
    assert len(find_journals(root)) == 1


def test_doctor_tells_the_version_of_a_package_with_another_name(programs: Programs, tmp_path: Path) -> None:
    """As that of TensorFlow, which also comes as tensorflow-cpu."""
    folder = tmp_path / "packages"
    facts = folder / "puddle_cpu-2.5.dist-info"
    facts.mkdir(parents=True)
    (folder / "puddle.py").write_text("")
    (folder / "watching.py").write_text(
        "from looptap.integration import Integration\nclass Watching(Integration):\n    requires = 'puddle>=2'\n"
    )
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: puddle-cpu\nVersion: 2.5\n")
    (facts / "top_level.txt").write_text("puddle\n")
    (facts / "entry_points.txt").write_text("[looptap.integrations]\npuddle = watching:Watching\n")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    assert (
        "puddle 2.5: captured"
        in programs.looptap("doctor", PYTHONPATH=path, LOOPTAP_DISABLE=ALL_INTEGRATIONS).stdout.splitlines()
    )
