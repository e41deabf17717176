"""Who ran what, where, with which code and packages.

:func:`start` is cheap and belongs to the moment a run begins; :func:`environment` asks git and reads the installed packages,
which takes a tenth of a second, and so belongs off the training thread.
"""

from __future__ import annotations

import getpass
import os
import platform
import socket
import sys
import time
from pathlib import Path

from looptap.events import Environment, RunStarted
from looptap.plain import main_script
from looptap.redaction import Redactor


def start(
    run: str,
    name: str,
    experiment: str,
    time_ns: int,
    redactor: Redactor,
    rank: int = 0,
    world_size: int = 1,
    kind: str = "training",
) -> RunStarted:
    """The identity of a run of this process, or of this rank of its job."""
    script = main_script()
    return RunStarted(
        run=run,
        name=name,
        experiment=experiment,
        time_ns=time_ns,
        kind=kind,
        script=redactor.text(script) if script else None,
        command=redactor.command(_command()),
        working_directory=working_directory(),
        host=socket.gethostname(),
        user=_user(),
        pid=os.getpid(),
        python=platform.python_version(),
        rank=rank,
        world_size=world_size,
    )


def environment(script: str | None, redactor: Redactor) -> Environment:
    """Code version, packages and platform of this process. Takes up to a few seconds; never raises."""
    folder = Path(script).parent if script else Path.cwd()
    commit = _git(folder, "rev-parse", "HEAD")
    dirty = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    remote = _git(folder, "config", "--get", "remote.origin.url") if commit else None
    return Environment(
        time_ns=time.time_ns(),
        git_commit=commit or None,
        # A detached head has no branch: git then prints nothing, and nothing is recorded.
        git_branch=(_git(folder, "symbolic-ref", "--short", "--quiet", "HEAD") or None) if commit else None,
        git_dirty=None if dirty is None else bool(dirty),
        git_remote=redactor.text(remote) if remote else None,
        platform=platform.platform(),
        packages=_packages(),
        variables=redactor.environment(os.environ),
    )


def _command() -> list[str]:
    # sys.orig_argv also has the interpreter's own options; `looptap run` puts the user's words into sys.argv.
    return list(sys.argv)


def working_directory() -> str | None:
    """None where it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user id without a name
        return str(os.getuid()) if hasattr(os, "getuid") else None


def _git(folder: Path, *words: str) -> str | None:
    """What git prints, stripped; None where there is no git, no repository, or no answer in five seconds."""
    import subprocess  # beside the run, where nobody waits for it

    try:
        done = subprocess.run(
            # Without optional locks, asking cannot disturb a git command of the user's.
            ["git", "--no-optional-locks", "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _packages() -> dict[str, str]:
    """Name → version, read from the names of the installed ``*.dist-info`` folders.

    ``importlib.metadata`` would open and parse one file for each package: a hundred times the work, and all of it with the
    interpreter lock held beside the training thread.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in entries:
            stem, dot, kind = entry.rpartition(".")
            name, dash, version = stem.partition("-")
            if dot and dash and kind in ("dist-info", "egg-info"):
                # What stands first on the path is what gets imported.
                found.setdefault(name.replace("_", "-").lower(), version.split("-py")[0])
    return dict(sorted(found.items()))
