"""``looptap run``: the program behaves as under python, to the letter, and its training is on record."""

from __future__ import annotations

import subprocess
import sys

import pytest

from programs import Programs

SEEN = """
import os, sys, pickle
class Thing:
    pass
if __name__ == "__main__":
    print(__name__, os.path.basename(__file__), sys.argv[1:], os.path.basename(sys.path[0]) == os.path.basename(os.getcwd()))
    print(sys.modules["__main__"].Thing is Thing, type(pickle.loads(pickle.dumps(Thing()))) is Thing)
    print(__spec__, __builtins__.__name__, __doc__, os.path.isabs(__file__), os.path.basename(sys.argv[0]))
"""


def both(programs: Programs, code: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], ...]:
    """The same program under python and under looptap run."""
    path = str(programs.script(code))
    return (
        programs.command([sys.executable, path, *arguments], LOOPTAP_QUIET="1"),
        programs.looptap("run", path, *arguments, LOOPTAP_QUIET="1"),
    )


@pytest.mark.parametrize(
    "code",
    [
        SEEN,
        "raise ValueError('mine')",
        "def f():\n    g()\ndef g():\n    1 / 0\nf()",
        "import sys\nsys.exit(5)",
        "import sys\nsys.exit('a message')",
        "syntax error here",
        "import atexit, sys\natexit.register(lambda: print('bye', sys.modules['__main__'].VALUE))\nVALUE = 3",
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--lr', type=float)\nprint(parser.parse_args())",
        "import argparse\nargparse.ArgumentParser().parse_args(['--unknown'])",
    ],
    ids=[
        "main module",
        "exception",
        "traceback",
        "exit code",
        "exit message",
        "syntax",
        "atexit",
        "argparse",
        "usage",
    ],
)
def test_as_under_python(code: str, programs: Programs) -> None:
    """Output, errors and exit code are those of ``python program.py``."""
    arguments = ["--lr", "0.5"] if "lr" in code else ["-m", "--flag", "value"] if code == SEEN else []
    plain, recorded = both(programs, code, *arguments)
    assert recorded.stdout == plain.stdout
    assert recorded.stderr == plain.stderr
    assert recorded.returncode == plain.returncode


def test_multiprocessing_finds_the_script(programs: Programs) -> None:
    """Spawned children import the script by its path, as under python."""
    code = """
        import multiprocessing
        def double(value):
            return 2 * value
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(double, [1, 2]))
    """
    plain, recorded = both(programs, code)
    assert plain.stdout == recorded.stdout == "[2, 4]\n", recorded.stderr


def test_module(programs: Programs) -> None:
    """``looptap run -m package.module`` is ``python -m package.module``."""
    programs.script("import sys\nprint(__name__, __package__, sys.argv[1:])", "trainer.py")
    plain = programs.command([sys.executable, "-m", "trainer", "--x", "1"])
    recorded = programs.looptap("run", "-m", "trainer", "--x", "1")
    assert recorded.stdout == plain.stdout
    assert recorded.returncode == plain.returncode == 0


def test_training_is_recorded_without_a_line(programs: Programs) -> None:
    """A program that knows nothing of us leaves its losses, params, command line and exception."""
    path = programs.script(
        """
        import argparse
        import torch

        WEIGHT_DECAY = 1e-4
        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float, default=0.5)
        parser.add_argument("--steps", type=int, default=3)
        args = parser.parse_args()
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, weight_decay=WEIGHT_DECAY)
        for step in range(args.steps):
            loss = model(torch.ones(4, 2)).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(repr(loss.item()))
        raise RuntimeError("after training")
        """,
        "train.py",
    )
    done = programs.looptap("run", "--experiment", "tests", str(path), "--lr", "0.1")
    assert done.returncode == 1
    record = programs.record()
    run = record["run"]
    assert run["command"] == [str(path), "--lr", "0.1"]
    assert (run["experiment"], run["status"], run["script"]) == ("tests", "failed", str(path))
    assert run["error"] == "RuntimeError: after training"
    params = {key: (item["value"], item["source"]) for key, item in record["params"].items()}
    assert params["lr"] == (0.1, "argparse")
    assert params["steps"] == (3, "default")
    assert params["WEIGHT_DECAY"] == (1e-4, "constant")
    assert params["optimizer.weight_decay"] == (1e-4, "torch")
    assert record["metrics"]["loss"]["last"] == float(done.stdout.split()[-1])
    begin, end = done.stderr.splitlines()[0], done.stderr.splitlines()[-1]
    assert begin.startswith(f"looptap: run {run['name']} → ")
    assert "points stored, 0 dropped" in end


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "missing.py"], "no such file: missing.py"),
        (["run"], "Missing argument"),
        (["nonsense"], "No such command"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, programs: Programs) -> None:
    """A mistake on the command line is said in one line, without a traceback."""
    done = programs.looptap(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_options_beat_the_program(programs: Programs) -> None:
    """What is typed for ``looptap run`` holds, whatever the program passes to autolog()."""
    path = str(programs.script("import looptap\nlooptap.autolog(name='inside')\nlooptap.log_metric('x', 1)\n"))
    done = programs.looptap("run", "--name", "typed", "--experiment", "mine", "--quiet", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [(run["name"], run["experiment"]) for run in programs.runs()] == [("typed", "mine")]
    off = programs.looptap("run", "--store", "off", path)
    assert off.stderr.splitlines() == [
        "looptap: run inside → off: nothing is kept",
        "looptap: run inside finished · nothing was kept: the store is off",
    ]
    assert len(programs.runs()) == 1


@pytest.mark.parametrize(
    ("leaving", "status", "error"),
    [("sys.exit()", "finished", None), ("sys.exit(0)", "finished", None), ("sys.exit(3)", "failed", "SystemExit: 3")],
)
def test_leaving_with_an_error_is_a_failure(programs: Programs, leaving: str, status: str, error: str | None) -> None:
    """The exit code is the program's, and the run says that it left with an error."""
    code = f"import sys, looptap\nlooptap.log_metric('x', 1.0)\n{leaving}\n"
    done = programs.looptap("run", str(programs.script(code)))
    assert done.returncode == (3 if error else 0)
    run = programs.record()["run"]
    assert (run["status"], run.get("error")) == (status, error)


def test_a_module_without_m(programs: Programs) -> None:
    """The natural slip says how it is meant."""
    done = programs.looptap("run", "--serving", "uvicorn", "app:app")
    assert done.returncode == 2
    assert done.stderr.endswith("Error: no such file: uvicorn; for a module: looptap run -m uvicorn\n")
    assert programs.looptap("run", "nothing.py").stderr.endswith("Error: no such file: nothing.py\n")


NOTHING_SEEN = "looptap: no training was seen, so nothing was recorded · looptap doctor"


@pytest.mark.parametrize(
    ("code", "is_told"),
    [
        ("print('done')", True),
        ("import sys\nsys.exit(3)", True),
        ("raise ValueError('before the first step')", True),
        ("import looptap\nlooptap.log_metric('x', 1.0)", False),
        ("import looptap\nlooptap.autolog(quiet=True)", False),
        ("import looptap\nlooptap.log_metric('x', 1.0)\nlooptap.end_run()", False),
        ("import os\nif child := os.fork():\n    os.waitpid(child, 0)", False),
    ],
    ids=["nothing", "exit", "failure", "a run", "quiet", "a run that has ended", "children"],
)
def test_a_program_without_training(code: str, is_told: bool, programs: Programs) -> None:
    """Is told so in its last line, once, and keeps its exit code. Not where a run began, or a child may have trained."""
    path = str(programs.script(code))
    plain = programs.command([sys.executable, path], LOOPTAP_QUIET="1")
    done = programs.looptap("run", path)
    assert done.returncode == plain.returncode
    assert done.stderr.splitlines().count(NOTHING_SEEN) == is_told
    if is_told:
        assert done.stderr == f"{plain.stderr}{NOTHING_SEEN}\n"
    assert NOTHING_SEEN not in programs.command([sys.executable, path]).stderr, (
        "only looptap run was asked for a record"
    )
    assert NOTHING_SEEN not in programs.looptap("run", path, LOOPTAP_ENABLED="0").stderr
