"""The public calls, each through the real journal, sender and store, in fresh processes."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from programs import Programs, assert_conserved


def test_user_calls_land_in_the_run(programs: Programs) -> None:
    """Metrics, params, tags and files of the user, beside the training's own."""
    done = programs.python(
        """
        import pathlib, torch, looptap
        looptap.autolog()
        looptap.log_param("before", "training")
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(4):
            loss = model(torch.ones(4, 2)).pow(2).mean()
            optimizer.zero_grad(); loss.backward(); optimizer.step()
            looptap.log_metric("beside", step * 1.5)
        looptap.log_metrics({"a": 1, "b": torch.tensor(2.5)}, step=100)
        looptap.log_params({"nested": {"x": 1, "y": [1, 2]}})
        looptap.set_tag("team", "nlp")
        pathlib.Path("notes.txt").write_text("hello")
        looptap.log_artifact("notes.txt", description="a note")
        """
    )
    assert done.returncode == 0, done.stderr
    assert len(programs.runs()) == 1
    record = programs.record()
    metrics, params = record["metrics"], record["params"]
    assert (metrics["beside"]["count"], metrics["beside"]["first_step"], metrics["beside"]["last_step"]) == (4, 0, 3)
    assert (metrics["a"]["last"], metrics["b"]["last"], metrics["b"]["last_step"]) == (1.0, 2.5, 100)
    assert (params["before"]["value"], params["before"]["source"]) == ("training", "user")
    assert (params["nested.x"]["value"], params["nested.y"]["value"]) == (1, [1, 2])
    assert record["tags"] == {"team": "nlp"}
    (artifact,) = record["artifacts"]
    assert (artifact["name"], artifact["size_bytes"], artifact["description"]) == ("notes.txt", 5, "a note")
    assert_conserved(record)


def test_steps_without_training_count_calls(programs: Programs) -> None:
    """Without a step and without training, each metric counts its own calls."""
    programs.python(
        """
        import looptap
        for value in range(3):
            looptap.log_metric("a", value)
        looptap.log_metric("b", 7)
        """
    )
    metrics = programs.record()["metrics"]
    assert (metrics["a"]["first_step"], metrics["a"]["last_step"], metrics["b"]["last_step"]) == (0, 2, 0)


def test_values_of_every_kind(programs: Programs) -> None:
    """NaN and infinities exactly; what is no number is dropped and counted, with a note; nothing raises."""
    done = programs.python(
        """
        import looptap
        class Bad:
            def __float__(self): raise RuntimeError("no")
            def __repr__(self): raise RuntimeError("no")
            def __str__(self): raise RuntimeError("no")
        for step, value in enumerate([float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, 1.7976931348623157e308]):
            looptap.log_metric("odd", value, step)
        for value in ("12", None, [1, 2], Bad(), 10**400, {}):
            looptap.log_metric("refused", value)
        looptap.log_metric("badstep", 1.0, step=0.5)
        looptap.log_metric("badstep", 1.0, step=2**70)
        looptap.log_metric("negative", 1.0, step=-5)
        looptap.log_param("object", Bad())
        looptap.log_param("huge", 2**200)
        looptap.log_param("text", "x" * 10**6)
        looptap.log_param("surrogate", "\\ud800")
        looptap.log_param(Bad, Bad)
        looptap.log_artifact("no such file")
        import torch
        looptap.log_metric("tensor", torch.tensor(0.1))
        """
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    record = programs.record()
    assert record["delivery"]["dropped"] == {"not_a_number": 6, "not_a_step": 2}
    assert record["metrics"]["negative"]["last_step"] == -5
    assert record["params"]["huge"]["value"] == str(2**200)
    assert len(record["params"]["text"]["value"]) <= 8192
    notes = [note["message"] for note in record["notes"]]
    assert [note.partition(":")[0] for note in notes[:-1]] == [
        *["metric 'refused' was left out"] * 6,
        *["metrics badstep was left out"] * 2,
    ]
    assert notes[-1] == "log_artifact('no such file') found no file: No such file or directory"
    exported = programs.looptap("export", "latest", "--format", "csv", "-o", "-")
    values = [line.split(",")[-1] for line in exported.stdout.splitlines() if ",odd," in line]
    floats = [float(value) for value in values]
    assert math.isnan(floats[0])
    assert floats[1:] == [math.inf, -math.inf, 0.0, 5e-324, 1.7976931348623157e308]
    assert math.copysign(1, floats[3]) == -1
    assert_conserved(record)


def test_param_revisions(programs: Programs) -> None:
    """A parameter logged twice with another value becomes a new revision, never an error; the same value does not."""
    programs.python("import looptap\nfor value in (1, 1, 2, 'two', 2.0):\n    looptap.log_param('x', value)\n")
    param = programs.record()["params"]["x"]
    assert param["value"] == 2.0
    assert [item["value"] for item in param["revisions"]] == [1, 2, "two", 2.0]


NAMES = ("allotted.price_per_hour", "allotted.grid_kg_per_kwh")


def test_prices_travel_with_the_run(programs: Programs) -> None:
    """What power and an hour cost is a param of the run, where it was set; nothing is made up where it was not."""
    code = "import looptap; looptap.autolog(price_per_hour=2.5); looptap.log_metric('x', 1.0)"
    assert programs.python(code, LOOPTAP_GRID_KG_PER_KWH="0.35").returncode == 0
    params = programs.record()["params"]
    told = {key: (params[key]["value"], params[key]["source"]) for key in NAMES}
    assert told == dict(zip(NAMES, ((2.5, "setting"), (0.35, "setting")), strict=True))
    assert programs.python("import looptap; looptap.log_metric('x', 1.0)").returncode == 0
    assert not set(NAMES) & programs.record()["params"].keys()


def test_runs_by_hand(programs: Programs) -> None:
    """Two runs in one program, named, one of which fails; steps begin again; suppressed calls leave nothing."""
    done = programs.python(
        """
        import looptap
        with looptap.run("first", experiment="hand"):
            assert looptap.current_run().name == "first"
            looptap.log_metric("x", 1.0)
            with looptap.suppress():
                looptap.log_metric("x", 2.0)
                looptap.log_param("hidden", 1)
        assert looptap.current_run() is None
        try:
            with looptap.run("second"):
                looptap.log_metric("x", 3.0)
                raise KeyError("mine")
        except KeyError:
            pass
        looptap.start_run("third")
        looptap.log_metric("x", 4.0)
        assert looptap.flush(10)
        looptap.end_run("killed")
        """
    )
    assert done.returncode == 0, done.stderr
    found = {run["name"]: run["status"] for run in programs.runs()}
    assert found == {"first": "finished", "second": "failed", "third": "killed"}
    first = programs.record("first")
    assert first["run"]["experiment"] == "hand"
    assert (first["metrics"]["x"]["count"], first["params"]) == (1, {})
    assert programs.record("second")["run"]["error"] == "KeyError: 'mine'"
    assert programs.record("third")["metrics"]["x"]["first_step"] == 0


def test_lines_and_quiet(programs: Programs) -> None:
    """One line at the start, one at the end, on stderr; none with LOOPTAP_QUIET=1."""
    code = "import looptap\nlooptap.autolog(name='calm-otter-12')\nlooptap.log_metric('x', 1)\nprint('mine')\n"
    spoken = programs.python(code)
    assert spoken.stdout == "mine\n"
    assert spoken.stderr.splitlines() == [
        "looptap: run calm-otter-12 → store · looptap ui",
        "looptap: run calm-otter-12 finished · 1 points stored, 0 dropped · looptap show calm-otter-12",
    ]
    assert programs.python(code, LOOPTAP_QUIET="1").stderr == ""


def test_disabled(programs: Programs) -> None:
    """LOOPTAP_ENABLED=0 switches everything off, without an edit of the program."""
    done = programs.python(
        "import looptap\nlooptap.autolog()\nlooptap.log_metric('x', 1)\nlooptap.log_param('y', 2)\nprint(looptap.current_run())",
        LOOPTAP_ENABLED="0",
    )
    assert (done.stdout, done.stderr) == ("None\n", "")
    assert not programs.store.exists()


def test_identity(programs: Programs) -> None:
    """Command line, script, git commit, branch and dirty flag, Python, packages, host, user, start and end."""
    subprocess.run(["git", "init", "-q", "-b", "trunk", str(programs.folder)], check=True)
    script = programs.script("import looptap, time\nlooptap.log_metric('x', 1)\ntime.sleep(0.5)\n")
    git = ["git", "-C", str(programs.folder), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run([*git, "add", script.name], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    for is_dirty in (False, True):
        if is_dirty:
            script.write_text(script.read_text() + "\n# changed\n")
        programs.command(
            [sys.executable, str(script), "--token", "hunter2"],
        )
        record = programs.record()
        environment = record["environment"]
        assert environment["git"]["commit"] == commit
        assert environment["git"]["branch"] == "trunk"
        assert environment["git"]["dirty"] is is_dirty
    run = record["run"]
    assert run["command"] == [str(script), "--token", "[redacted]"]
    assert run["host"]
    assert run["user"]
    assert run["pid"] > 0
    assert run["duration_seconds"] >= 0.5
    assert environment["packages"]["msgspec"]
    assert environment["python"] == ".".join(str(part) for part in sys.version_info[:3])


def test_secrets_reach_nothing(programs: Programs) -> None:
    """A canary in argv, params, tags, environment and an exception is in no byte of journal or store."""
    canary = "sk-canary0123456789abcdef"
    done = programs.python(
        f"""
        import looptap
        looptap.log_param("api_key", "canary-by-key")
        looptap.log_param("config", {{"inner": {{"password": "canary-by-key"}}, "note": "use {canary} here"}})
        looptap.log_params({{"url": "https://me:canary-by-key@host/x"}})
        looptap.set_tag("token", "canary-by-key")
        looptap.log_metric("x", 1.0)
        import os
        os._exit(0)
        """,
        "--api-key",
        "canary-by-key",
        MY_SECRET="canary-by-key",
    )
    assert done.returncode == 0, done.stderr

    def everything() -> bytes:
        paths = [path for path in programs.folder.rglob("*") if path.is_file() and path.suffix != ".py"]
        return b"".join(path.read_bytes() for path in paths)

    assert b"run_name" in everything()
    assert b"canary" not in everything()
    programs.record()
    assert b"canary" not in everything()


@pytest.mark.parametrize("kind", ["a file in its place", "read-only folder", "not a database"])
def test_unusable_store(kind: str, programs: Programs) -> None:
    """A store that cannot be used costs one clear line; training is unaffected; the journal keeps all for later."""
    if kind == "a file in its place":
        programs.store.write_text("I am a file")
    elif kind == "read-only folder":
        if os.geteuid() == 0:
            # Root may write anywhere; a folder in /proc is read-only for root, too.
            pytest.skip("root is not stopped by a read-only folder")
        programs.store.mkdir(mode=0o500)
    else:
        programs.store.mkdir()
        (programs.store / "looptap.db").write_text("no database at all, but long enough to be looked at" * 50)
    done = programs.python(
        "import looptap\nlooptap.autolog()\nfor step in range(100):\n    looptap.log_metric('x', step, step)\nprint('trained')\n",
        LOOPTAP_EXIT_TIMEOUT="1",
    )
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert "records are safe in the journal" in done.stderr.splitlines()[-1]
    if kind == "a file in its place":
        programs.store.unlink()
    elif kind == "not a database":
        (programs.store / "looptap.db").unlink()
    record = programs.record()
    assert record["metrics"]["x"]["count"] == 100
    assert_conserved(record)


def test_full_disk_of_the_store(programs: Programs) -> None:
    """The store's disk is full (a real limit on file size): training goes on; with room again, everything arrives."""

    def small_files() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))

    script = programs.script(
        """
        import looptap
        looptap.autolog(exit_timeout=1)
        for step in range(20_000):
            looptap.log_metric("x", step, step)
        status = looptap.status()
        assert status.emitted == status.stored + status.in_journal + sum(status.dropped.values())
        print("trained")
        """
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True, text=True, cwd=programs.folder, env=programs.environment(), preexec_fn=small_files, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert "Traceback" not in done.stderr
    record = programs.record()
    stored = record["metrics"]["x"]["count"] if "x" in record["metrics"] else 0
    assert stored + sum(record["delivery"]["dropped"].values()) == 20_000
    assert_conserved(record)


def test_store_without_the_collector(programs: Programs, tmp_path: Path) -> None:
    """The agent alone records to its journal and says in one line what is missing."""
    (tmp_path / "looptap_collector.py").write_text("raise ModuleNotFoundError('no', name='sqlalchemy')")
    done = programs.python(
        "import looptap\nlooptap.autolog(exit_timeout=0.5)\nlooptap.log_metric('x', 1)\n", PYTHONPATH=str(tmp_path)
    )
    assert "pip install 'looptap[collector]'" in done.stderr
    (tmp_path / "looptap_collector.py").unlink()
    assert programs.record()["metrics"]["x"]["count"] == 1
