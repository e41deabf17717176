"""``looptap store …``: commands that look after a store, a folder or a database.

They work on the store itself, also while agents and collectors write to it, unless it says otherwise.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from looptap_collector.mistake import Mistake
from looptap_collector.opening import own_store
from looptap_collector.printable import printable

if TYPE_CHECKING:
    from looptap_collector.artifacts import ArtifactStore
    from looptap_collector.backend import Store
    from looptap_collector.backends.copying import Copied
    from looptap_collector.backends.sql import SqlBackend

B = TypeVar("B", bound="Store")

_store = click.argument("store", required=False, metavar="[FOLDER|URL]")
_artifacts = click.option(
    "--artifacts", metavar="FOLDER|URL", help="Where its files are. Default: in the folder of the store."
)


@click.group()
def store() -> None:
    """Look after a store: a folder (default: the one autolog() would use), postgresql://… or mysql://…"""


@store.command()
@_store
def migrate(store: str | None) -> None:
    """Bring the tables to the form of this version. Every command does so by itself; this one does nothing else."""
    from looptap_collector.backends.schema import HEAD

    with _opened(store) as backend:
        if backend.found_at == HEAD:
            click.echo(f"{backend.place}: nothing to do, its tables are at {HEAD}")
        elif backend.found_at is None:
            click.echo(f"{backend.place}: tables made, at {HEAD}")
        else:
            click.echo(f"{backend.place}: upgraded from {backend.found_at} to {HEAD}")


@store.command()
@_store
@_artifacts
@click.option("--content", is_flag=True, help="Read all files, too, and compare them with their digests.")
@click.pass_context
def check(context: click.Context, store: str | None, artifacts: str | None, content: bool) -> None:
    """Read everything and tell what does not fit together: one line each, with how to mend it. Nothing is changed.

    The exit code is 1 when there is a problem.
    """
    from looptap_collector.backends.checking import check as problems

    address = _own(store)
    files = _files(address, artifacts)
    count = 0
    with _opened(address) as backend, _progress("checking") as progress:
        if files is None:
            click.echo("files are not looked for: tell where they are with --artifacts", err=True)
        for problem in problems(backend, files, content=content, progress=progress):
            count += 1
            _tell(f"{problem.where}: {problem.what} → {problem.mend}")
    if count:
        click.echo(_count(count, "problem"), err=True)
        context.exit(1)
    click.echo("everything fits together")


@store.command()
@_store
@click.option("--run", "run", metavar="RUN", help="Only this run, by id or name. The file is not made smaller then.")
def compact(store: str | None, run: str | None) -> None:
    """Make long chunks of short ones, so that long series are quick to draw and take less space; of what was served more than two
    days ago, keep windows of ten minutes, and of six hours after two weeks.

    Agents may write meanwhile, a little at a time; but while a SQLite file is made smaller at the end they have to wait.
    """
    from looptap_collector.backend import Unavailable
    from looptap_collector.query import UnknownRun, find_run

    with _opened(store) as backend:
        try:
            one = None if run is None else find_run(backend, run).run
        except UnknownRun as error:
            raise Mistake(str(error)) from error
        done = backend.compact(run=one)
        windows = backend.merge_windows(run=one)
        if done.has_changed:
            click.echo(
                f"{_count(done.merged, 'chunk')} became {_count(done.made, 'long one')} in {done.series:,} series, "
                f"{_count(done.outlines, 'outline')} made"
            )
        if windows.merged:
            click.echo(f"{_count(windows.merged, 'window')} of serving became {_count(windows.made, 'longer one')}")
        damaged = [
            _count(number, what) for number, what in ((done.damaged, "chunk"), (windows.damaged, "window")) if number
        ]
        if damaged:
            click.echo(f"{' and '.join(damaged)} cannot be read, left as found: looptap store check", err=True)
        elif not (done.has_changed or windows.merged):
            click.echo("nothing to do: chunks and windows are as long as they can be")
        if run is None:
            try:
                freed = backend.shrink()
            except Unavailable as error:
                click.echo(f"looptap: the file stays as large as it is: {error}. Try again later", err=True)
                return
            if freed:
                click.echo(f"the file is {freed:,} bytes smaller")


@store.command()
@_store
@_artifacts
@click.option("--yes", is_flag=True, help="Delete them. Without it, only tell.")
@click.option(
    "--older-than",
    "hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Files come before the runs that refer to them: younger ones always stay.",
)
def gc(store: str | None, artifacts: str | None, yes: bool, hours: float) -> None:
    """Tell which files no run refers to (of runs that were deleted, say), and delete them with --yes."""
    from looptap_collector.artifacts.retention import collect, plan

    address = _own(store)
    files = _files(address, artifacts)
    if files is None:
        raise Mistake("the files of a database are elsewhere: tell where with --artifacts")
    with _opened_of_any_kind(address) as backend:
        planned = plan(backend.referenced(), files, hours * 3600)
        if not yes:
            for digest, size in sorted(planned.digests.items()):
                click.echo(f"{digest} {size:>15,} bytes")
            click.echo(
                f"{_count(len(planned.digests), 'file')} of no run ({_count(planned.size_bytes, 'byte')}), {planned.kept:,} stay"
                + ("; delete with --yes" if planned.digests else "")
            )
            return
        done = collect(planned, files, lambda digest: _is_referenced(backend, digest))
        freed = _count(done.size_bytes, "byte")
        click.echo(f"{_count(done.deleted, 'file')} deleted ({freed}), {planned.kept + done.spared:,} stay")


@store.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--merge", is_flag=True, help="DST may have other runs, which stay.")
@click.option("--no-files", is_flag=True, help="Leave the content of artifacts where it is.")
@click.option("--artifacts", "source_artifacts", metavar="FOLDER|URL", help="Where the files of SRC are.")
@click.option("--to-artifacts", "target_artifacts", metavar="FOLDER|URL", help="Where the files of DST go.")
@click.pass_context
def copy(
    context: click.Context,
    source: str,
    target: str,
    merge: bool,
    no_files: bool,
    source_artifacts: str | None,
    target_artifacts: str | None,
) -> None:
    """Copy all runs with everything that they have from one store to another one, and prove by checksums that both are equal.

    What is there already is left alone, so a copy that was cut off goes on when it is called again. Tokens are not copied:
    make new ones for the new collector. Files are copied when it is known where they are and go (folders know).
    """
    from looptap_collector.backends.copying import CannotCopy, copy_run, runs_to_copy

    source, target = _own(source), _own(target)
    problems = 0
    with _opened(source) as from_store, _opened(target, create=True) as to_store:
        if from_store.place == to_store.place:
            raise Mistake(f"{source} and {target} are the same store")
        try:
            runs = runs_to_copy(from_store, to_store, merge=merge)
        except CannotCopy as error:
            raise Mistake(str(error)) from error
        with _progress("copying") as progress:
            for number, run in enumerate(runs):
                progress(number, len(runs))
                done = copy_run(from_store, to_store, run)
                if done is not None:
                    problems += not done.is_equal
                    _tell(_line(done))
            progress(len(runs), len(runs))
        if not no_files:
            problems += _copy_files(from_store, _files(source, source_artifacts), _files(target, target_artifacts))
    if problems:
        click.echo(f"{_count(problems, 'problem')}: {target} is not equal to {source}", err=True)
        context.exit(1)
    click.echo(f"{_count(len(runs), 'run')} {'is' if len(runs) == 1 else 'are'} equal in both")


def _line(done: Copied) -> str:
    if done.problem is not None:
        return f"{done.run} {done.name}: {done.problem}"
    assert done.source is not None
    assert done.target is not None
    how = {"the same": "was there", "less": "brought up to date", "nothing": "copied"}[done.was]
    if done.is_equal:
        return f"{done.source.sha256} {done.run} {done.name}: {done.source.points:,} points, {how}, equal"
    return f"{done.run} {done.name}: NOT EQUAL, {done.source.sha256} became {done.target.sha256}"


def _copy_files(backend: SqlBackend, source: ArtifactStore | None, target: ArtifactStore | None) -> int:
    """How many could not be copied."""
    from looptap_collector.artifacts import DamagedArtifact

    if source is None or target is None:
        missing = [option for option, place in (("--artifacts", source), ("--to-artifacts", target)) if place is None]
        click.echo(f"files stay where they are; give {' and '.join(missing)} to take them along", err=True)
        return 0
    copied = there = problems = 0
    for digest in backend.written():
        if target.exists(digest):
            there += 1
            continue
        try:
            with source.open(digest) as content, tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / digest
                with path.open("wb") as file:
                    while block := content.read(1 << 20):
                        file.write(block)
                target.add(path, digest)
            copied += 1
        except (KeyError, DamagedArtifact) as error:
            problems += 1
            _tell(f"file {digest}: {error.args[0]}")
    click.echo(f"{_count(copied, 'file')} copied, {there:,} there before")
    return problems


def _is_referenced(backend: Store, digest: str) -> bool:
    return bool(backend.edges(digests=[digest], limit=1))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _own(store: str | None) -> str:
    return own_store(store, "as the argument FOLDER|URL")


def _opened(store: str | None, *, create: bool = False) -> AbstractContextManager[SqlBackend]:
    # What is made here is to survive a power cut, as a file that somebody copied.
    return _looked_after(lambda stores: stores.open_sql_store(_own(store), create=create, durable=create))


def _opened_of_any_kind(store: str) -> AbstractContextManager[Store]:
    return _looked_after(lambda stores: stores.open_store(store, create=False))


@contextmanager
def _looked_after(opened_by: Callable[[Any], B]) -> Iterator[B]:
    """What the function makes of the module ``looptap_collector.stores``, which needs libraries."""
    from looptap_collector.backend import Unavailable
    from looptap_collector.backends.schema import UnusableStore

    try:
        from looptap_collector import stores
    except ModuleNotFoundError as error:
        raise Mistake(f"a store needs {error.name}: pip install 'looptap[collector]'") from error
    try:
        backend = opened_by(stores)
    except (ValueError, FileNotFoundError, RuntimeError, UnusableStore, OSError) as error:
        raise Mistake(str(error)) from error
    try:
        yield backend
    except Unavailable as error:
        raise Mistake(f"{error}; what was done so far stays done, call it again") from error
    finally:
        backend.close()


def _files(address: str, artifacts: str | None) -> ArtifactStore | None:
    """None where nobody knows."""
    from looptap_collector.artifacts import ArtifactsUnavailable, open_artifacts
    from looptap_collector.embedded import ARTIFACTS

    if artifacts is None:
        if "://" in address:
            return None
        artifacts = str(Path(address) / ARTIFACTS)
    try:
        return open_artifacts(artifacts)
    except ArtifactsUnavailable as error:
        raise Mistake(str(error)) from error


@contextmanager
def _progress(what: str) -> Iterator[Any]:
    """A bar on a terminal, nothing elsewhere. Gives a function that takes how many are done and of how many."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def _tell(line: str) -> None:
    click.echo(printable(line))
