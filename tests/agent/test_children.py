"""Processes that a program starts under ``looptap run --serving``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from programs import Programs

#: Says what a process of its own is told, started in another folder.
STARTS = """
import os, subprocess, sys
os.mkdir("elsewhere")
done = subprocess.run([*sys.argv[1:], "-c", os.environ["CHILD"]], cwd="elsewhere")
raise SystemExit(done.returncode)
"""
CHILD = """
import json, os, sys
settings = None
if "looptap.session" in sys.modules:
    from looptap.session import SESSION
    settings = [SESSION.armed, SESSION.serving.is_wanted, SESSION.settings.store, SESSION.settings.experiment]
own = sys.modules.get("sitecustomize")
print(json.dumps([settings, [path for path in sys.path if "in_children" in path], getattr(own, "MARK", None)]))
"""


def child(programs: Programs, *options: str, python: str = sys.executable, **more: str) -> Any:
    program = str(programs.script(STARTS))
    done = programs.looptap("run", *options, program, python, CHILD=CHILD, LOOPTAP_STORE="", **more)
    # That nothing was recorded is not known of children that serve.
    said = "" if options else "looptap: no training was seen, so nothing was recorded · looptap doctor\n"
    assert (done.returncode, done.stderr) == (0, said)
    return json.loads(done.stdout)


def test_they_know_what_was_typed(programs: Programs) -> None:
    """And write to the same store, wherever they work; their search path is what it would be."""
    settings, paths, _ = child(programs, "--serving", "--store", "typed", "--experiment", "shop")
    assert settings == [True, True, str(programs.folder / "typed"), "shop"]
    assert paths == []


@pytest.mark.parametrize("options", [["--serving"], []])
def test_what_python_starts_with_is_the_programs_own(programs: Programs, options: list[str]) -> None:
    """``sitecustomize`` is imported as it would be without us, and may fail as it would."""
    (programs.folder / "own").mkdir()
    own = programs.folder / "own" / "sitecustomize.py"
    path = os.pathsep.join([str(own.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    own.write_text("import sys\nMARK = __name__, __file__\nassert sys.modules[__name__].MARK is MARK\n")
    settings, _, mark = child(programs, *options, PYTHONPATH=path)
    assert (settings is not None) == bool(options)
    assert mark == ["sitecustomize", str(own)]
    own.write_text("raise ImportError('mine', name='sitecustomize')")
    (programs.folder / "elsewhere").rmdir()
    assert child(programs, *options, PYTHONPATH=path)[2] is None


def test_an_environment_without_looptap(programs: Programs) -> None:
    """Its Python starts as ever."""
    other = programs.folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(other)], check=True)
    assert child(programs, "--serving", python=str(other / "bin" / "python")) == [None, [], None]


def test_agents_of_ray(programs: Programs) -> None:
    """Are servers, too, and nobody's model."""
    (programs.folder / "ray" / "dashboard").mkdir(parents=True)
    agent = programs.script(CHILD, "ray/dashboard/agent.py")
    starts = f"import subprocess, sys\nsubprocess.run([sys.executable, {str(agent)!r}])"
    done = programs.looptap("run", "--serving", str(programs.script(starts)))
    assert json.loads(done.stdout)[0] is None


def test_a_training_is_not_followed(programs: Programs) -> None:
    """What it starts is left alone, as it has always been."""
    assert child(programs) == [None, [], None]
