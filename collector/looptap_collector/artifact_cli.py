"""``looptap artifact``: list the files of a run, and get one of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from looptap.events import Artifact
from looptap_collector.backend import Backend
from looptap_collector.mistake import Mistake
from looptap_collector.printable import printable, size
from looptap_collector.store_option import opened, run_of, store_address, store_option

#: A download that is over at once shows no bar.
_BAR_FROM_BYTES = 16 * 2**20


@click.group()
def artifact() -> None:
    """The files that runs wrote and read: list them, get one."""


@artifact.command("list")
@click.argument("run", default="latest")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def list_artifacts(run: str, as_json: bool, store: str | None) -> None:
    """List the files of a RUN: an id, the beginning of one, a name, or 'latest' (the default)."""
    from looptap_collector import terminal
    from looptap_collector.record import artifact_fields, to_json

    with run_of(store, run) as (backend, row):
        found = backend.artifacts(row.run)
    if as_json:
        click.echo(to_json([artifact_fields(item) for item in found], indent=2))
    elif found:
        terminal.console().print(terminal.artifacts_table(found))
    else:
        click.echo(printable(f"{row.name} has no artifacts"))


@artifact.command("get")
@click.argument("run")
@click.argument("which", metavar="[NAME_OR_DIGEST]", required=False)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="A file or a folder (made, where it ends with /). Default: a file of that name here.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@store_option
def get(run: str, which: str | None, output: str | None, force: bool, store: str | None) -> None:
    """Get the content of one file of a RUN, by its name (the newest) or its SHA-256 (6 digits or more); or of any run, by
    its SHA-256 alone.

    The file appears when all of it is there and verified.
    """
    from looptap_collector.artifacts import DamagedArtifact
    from looptap_collector.artifacts.downloads import place_for, save
    from looptap_collector.opening import contents_to_read

    found = _of_any_run(store, run) if which is None else _of_run(store, run, which)
    assert found.digest is not None
    target = Path(output or ".")
    try:
        target = place_for(output or ".", found.name)
        content = contents_to_read(store_address(store))
        with _bar(found.size_bytes) as progress:
            save(content, found.digest, target, overwrite=force, progress=progress)
    except FileExistsError as error:
        raise Mistake(f"{target} is there already; replace it with --force or name another with -o") from error
    except KeyError as error:
        raise Mistake(f"the content of {found.name!r} is no longer in the store") from error
    except DamagedArtifact as error:
        raise Mistake(f"nothing was written: {error}") from error
    except OSError as error:
        reason = f"cannot write {error.filename}: {error.strerror}" if error.filename else str(error)
        raise Mistake(reason) from error
    click.echo(printable(f"{found.name} ({size(target.stat().st_size)}) → {target}"))


def _of_run(store: str | None, run: str, which: str) -> Artifact:
    from looptap_collector.artifacts.downloads import UnknownArtifact, choose

    with run_of(store, run) as (backend, row):
        try:
            return choose(backend.artifacts(row.run), which)
        except UnknownArtifact as error:
            raise Mistake(f"{error}. See them all: looptap artifact list {row.name}") from error


def _of_any_run(store: str | None, which: str) -> Artifact:
    """What the latest run that has this content calls it."""
    from looptap_collector.artifacts.store import is_digest

    with opened(store) as backend:
        digests = [which] if is_digest(which) else _that_begin(backend, which)
        if len(digests) > 1:
            raise Mistake(f"{len(digests)} files have a SHA-256 that begins with {which}: {', '.join(digests[:5])}")
        for edge in backend.edges(digests=digests, limit=1):
            return edge.artifact
    raise Mistake(f"no run has a file with the SHA-256 {which}")


def _that_begin(backend: Backend, which: str) -> list[str]:
    """The digests that begin with this, unless a run is called so."""
    from looptap_collector.artifacts.downloads import SHORTEST_DIGEST_PREFIX
    from looptap_collector.query import UnknownRun, find_run

    try:
        find_run(backend, which)
    except UnknownRun as error:
        if re.fullmatch(f"[0-9a-f]{{{SHORTEST_DIGEST_PREFIX},}}", which):
            return [digest for digest in backend.referenced() if digest.startswith(which)]
        raise Mistake(f"{error}. See them all: looptap runs") from error
    raise Mistake(f"which file of {which}? Give its name or SHA-256, too: looptap artifact list {which}")


@contextmanager
def _bar(size_bytes: int) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on the error stream for what takes a while, when somebody is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    if size_bytes < _BAR_FROM_BYTES or not sys.stderr.isatty():
        yield None
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=size_bytes)
        yield lambda received, total: progress.update(task, completed=received, total=total)
