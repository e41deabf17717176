"""A rank that keeps the others waiting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from looptap.alerts.latch import Change
from looptap.alerts.ranks import LAG_SECONDS, Lagging, Pace, Told, found, leave
from looptap.journal.folder import JournalMeta, create
from programs import Programs


def told(seconds: float, whole: float = 1.0, at: float = 0.0) -> Told:
    return Told(seconds, whole, at)


def changes(lagging: Lagging, slow: float, start: float, seconds: float) -> list[Change]:
    """Rank 2 takes so long, the others a tenth of a second; a look every ten seconds."""
    paces = {0: told(0.1), 1: told(0.1), 2: told(slow), 3: told(0.12)}
    times = [start + at for at in range(0, int(seconds) + 1, 10)]
    return [change for time in times if (change := lagging.see(paces, time)) is not None]


def test_a_slow_rank() -> None:
    """More than a fifth of a step behind the median of the others, for a minute; and the same for its end."""
    lagging = Lagging()
    assert changes(lagging, 0.25, 0, 600) == []
    assert changes(lagging, 0.4, 1_000, LAG_SECONDS - 10) == []
    (change,) = changes(lagging, 0.4, 1_000 + LAG_SECONDS, 100)
    assert (change.kind, change.state, change.severity) == ("rank_lag", "fired", "warning")
    assert change.value == pytest.approx(0.3)
    assert change.threshold == pytest.approx(0.2)
    assert change.message == "rank 2 takes 0.4 s of a step until it waits for others, the others 0.1 s"
    assert changes(lagging, 0.25, 2_000, 600) == [], "neither wrong nor right"
    assert [one.state for one in changes(lagging, 0.12, 3_000, LAG_SECONDS)] == ["recovered"]


def test_alone_nobody_lags() -> None:
    lagging = Lagging()
    for time in range(0, 1_000, 10):
        assert lagging.see({3: told(1.0)}, time) is None
        assert lagging.see({}, time) is None


def test_the_pace_of_a_rank() -> None:
    """The mean over its steps since the last time, up to where it begins to wait."""
    pace = Pace()
    assert pace.take(0) is None
    for step in range(4):
        for key, value in {"time.data": 0.1, "time.forward": 0.2, "time.other": 0.1, "step_time": 1.0}.items():
            assert Pace.wants(key)
            pace.see(key, value, step)
    assert not Pace.wants("time.backward")
    mean = pace.take(7)
    assert mean is not None
    assert mean.seconds == pytest.approx(0.4)
    assert mean.whole == pytest.approx(1.0)
    assert pace.take(8) is None


def test_the_pace_of_several_optimizers() -> None:
    """They share a step, and each tells its part of it; one of them steps every other time only."""
    pace = Pace()
    for step in range(4):
        for seconds in (0.3, 0.1) if step % 2 else (0.3,):
            pace.see("time.forward", seconds / 2, step)
            pace.see("step_time", seconds, step)
    mean = pace.take(0)
    assert mean is not None
    assert mean.seconds == pytest.approx(0.175)
    assert mean.whole == pytest.approx(0.35)


def test_paces_of_one_run_on_this_host(tmp_path: Path) -> None:
    """Neither those of other runs, nor of forked children and files, nor old ones, nor what cannot be read."""
    root = tmp_path / "journals"

    def journal(run: str, rank: int, is_primary: bool = True) -> Path:
        return create(root, JournalMeta.of_this_process(run, "name", "/store", is_primary, rank)).folder

    for rank in range(4):
        leave(journal("r1", rank), told(rank, at=100.0 if rank < 3 else 10.0))
    leave(journal("r2", 7), told(1.0, at=100))
    leave(journal("r1", 8, is_primary=False), told(1.0, at=100))
    (journal("r1", 9) / "beside.pace").write_text("{")
    journal("r1", 10)
    assert found(root, "r1", 105.0) == {rank: told(rank, at=100.0) for rank in range(3)}
    leave(tmp_path / "gone", told(1.0))


def test_the_pace_goes_with_the_journal(tmp_path: Path) -> None:
    owned = create(tmp_path, JournalMeta.of_this_process("r1", "name", "/store", True, 0))
    leave(owned.folder, told(1.0))
    assert len(list(owned.folder.glob("*pace*"))) == 1
    owned.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_job_of_two(programs: Programs) -> None:
    """Two processes of one job on this host, of which one is slow: rank 0 says so, once, and rank 1 is quiet."""
    code = """
    import sys, time
    import looptap
    looptap.autolog()
    from looptap.alerts import ranks
    ranks.PACE_SECONDS, ranks.LAG_SECONDS = 1.0, 2.0
    for step in range(160):
        looptap.log_metrics({"loss": 1.0, "time.forward": float(sys.argv[1]), "step_time": 0.5}, step=step)
        time.sleep(0.05)
    """
    script = str(programs.script(code))
    job = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "0b8f1c6e-3f0e-4c7a-9d0a-9a4c3b7a1f55"}
    processes = [
        subprocess.Popen(
            [sys.executable, script, seconds],
            stderr=subprocess.PIPE,
            text=True,
            cwd=programs.folder,
            env=programs.environment(**job, RANK=str(rank), LOCAL_RANK=str(rank)),
        )
        for rank, seconds in enumerate(("0.1", "0.4"))
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert said[0].count("alert: rank 1 takes 0.4 s of a step until it waits for others, the others 0.1 s") == 1
    assert "alert" not in said[1]
    (run,) = programs.runs()
    assert run["alerts"] == {"fired": 1, "standing": 1}
