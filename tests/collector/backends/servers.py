"""Real database servers, each started once per session in a folder of its own, with an empty database for every test.

Without the programs a test is skipped, but not in CI: there a missing server is a failure.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest


def found(name: str, *folders: str) -> str:
    """The path of a program, looked for in the folders of Debian too. Skips, or fails in CI."""
    places = [str(path) for pattern in folders for path in sorted(Path("/").glob(pattern), reverse=True)]
    program = shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))
    if program is None:
        reason = f"{name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def user(name: str) -> dict[str, Any]:
    """Neither server wants to run as root."""
    return {"user": name, "group": name, "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def folder_of(owner: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"looptap-{owner}-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, owner)
        yield folder


@contextmanager
def running(
    command: Sequence[str], owner: str, folder: Path, ready: Callable[[], object], end: signal.Signals
) -> Iterator[None]:
    """A server in the foreground, from when it answers until the end of the block, where it gets the signal."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output, start_new_session=True, **user(owner)
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                ready()
                break
            except (psycopg.OperationalError, pymysql.err.OperationalError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command} does not answer:\n{log.read_text()}") from error
                time.sleep(0.05)
        yield
    finally:
        process.send_signal(end)
        process.wait()


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL server, to which the name of a database is to be added."""
    initdb = found("initdb", "usr/lib/postgresql/*/bin")
    server = found("postgres", "usr/lib/postgresql/*/bin")
    with folder_of("postgres") as folder:
        data = str(folder / "data")
        make = [initdb, "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=folder, **user("postgres"))
        port = free_port()
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": folder,
            "fsync": "off",
            "max_connections": 200,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        address = f"postgresql://postgres@127.0.0.1:{port}/"
        with running(
            [server, "-D", data, *options],
            "postgres",
            folder,
            lambda: psycopg.connect(address + "postgres").close(),
            signal.SIGQUIT,  # at once, whoever is connected
        ):
            yield address


@contextmanager
def mariadb() -> Iterator[str]:
    """The address of a MariaDB server, to which the name of a database is to be added."""
    install = found("mariadb-install-db", "usr/bin")
    server = found("mariadbd", "usr/sbin", "usr/libexec")
    with folder_of("mysql") as folder:
        data, port = folder / "data", free_port()
        make = [
            install,
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        nowhere = subprocess.DEVNULL
        subprocess.run(make, check=True, cwd=folder, stdout=nowhere, stderr=nowhere, **user("mysql"))
        command = [
            server,
            "--no-defaults",
            f"--datadir={data}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            "--skip-name-resolve=1",
            "--innodb-flush-log-at-trx-commit=0",
        ]
        with running(
            command,
            "mysql",
            folder,
            lambda: pymysql.connect(host="127.0.0.1", port=port, user="root").close(),
            signal.SIGKILL,  # nobody needs what is in it
        ):
            yield f"mysql://root@127.0.0.1:{port}/"
