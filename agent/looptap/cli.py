"""The command line. ``run``, ``doctor`` and ``sync`` need the agent only; commands that read come with the collector."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from looptap import __version__, adoption, settings
from looptap.journal.folder import Unusable, read_meta
from looptap.sinks import REQUEST_SECONDS, open_sink

_ASIDE_SECONDS = 3.0
#: Of the runs that wait, so many are named.
_NAMES = 3
_ASKS_FOR_HELP = "looptap.asks_for_help"


class Commands(click.Group):
    """Our own commands and the collector's, which are imported only when one of them is asked for."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        context.meta[_ASKS_FOR_HELP] = any(word in context.help_option_names for word in args)
        return super().parse_args(context, args)

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *_collector_commands()})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return super().get_command(context, name) or _collector_commands().get(name)


def _collector_commands() -> dict[str, click.Command]:
    try:
        from looptap_collector.cli import COMMANDS
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("looptap"):
            raise
        names = ("runs", "show", "profile", "export", "artifact", "serving", "ui", "store", "server", "token")
        return {name: _needs_collector(name) for name in names}
    return {command.name: command for command in COMMANDS if command.name}


def _needs_collector(name: str) -> click.Command:
    @click.command(name, context_settings={"ignore_unknown_options": True}, help="(needs looptap[collector])")
    @click.argument("arguments", nargs=-1)
    def missing(arguments: tuple[str, ...]) -> None:
        raise click.ClickException(f"'looptap {name}' needs the collector: pip install 'looptap[collector]'")

    return missing


def main() -> None:
    """The ``looptap`` command."""
    try:
        result = commands.main(prog_name="looptap", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    # `looptap run` hands the user's program back to be run here, outside click, which would turn its Ctrl-C into "Aborted!".
    sys.exit(result() if callable(result) else result)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="looptap")
@click.pass_context
def commands(context: click.Context) -> None:
    """Auto-logging for deep learning: what a training program did, on record."""
    if context.invoked_subcommand not in (None, "run"):
        from looptap.reading import in_journal

        context.obj = in_journal
        if context.invoked_subcommand != "sync" and not context.meta[_ASKS_FOR_HELP]:
            # Whatever a killed run left behind is in the store before anything is read from it.
            _deliver_aside()


def _deliver_aside() -> None:
    """Who has asked for something else waits for a silent collector only so long."""
    result = _deliver(_ASIDE_SECONDS)
    for run in result.runs:
        _say(f"found what run {run} left behind and stored it")
    for line in _waiting(result.kept, " · looptap sync"):
        _say(line)


def _deliver(seconds: float, to: str | None = None) -> adoption.Adopted:
    root = settings.journal_root()
    if root is None or not root.is_dir():
        return adoption.Adopted()
    return adoption.deliver_abandoned(root, partial(open_sink, seconds=seconds), to)


def _waiting(kept: Mapping[Path, str], hint: str = "") -> Iterator[str]:
    """One line for each reason why something has to stay; ``hint`` where it may be delivered later."""
    runs: dict[str, dict[str, None]] = {}
    unknown: dict[str, list[str]] = {}
    for folder, reason in kept.items():
        try:
            name = read_meta(folder).run_name
            runs.setdefault(reason, {})[name] = None
        except Unusable:
            unknown.setdefault(reason, []).append(str(folder))
    for reason, names in runs.items():
        yield f"{_some(list(names), 'run')} {'waits' if len(names) == 1 else 'wait'} to be delivered: {reason}{hint}"
    for reason, folders in unknown.items():
        yield f"{_some(folders, 'journal')} cannot be delivered: {reason}"


def _some(names: list[str], what: str) -> str:
    shown = [*names[:_NAMES], "…"] if len(names) > _NAMES else names
    return f"{len(names):,} {what}{'' if len(names) == 1 else 's'} ({', '.join(shown)})"


def _say(line: str) -> None:
    # The name of a run may be anything.
    click.echo(f"looptap: {''.join(char if char.isprintable() else ' ' for char in line)}", err=True)


@commands.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "module", is_flag=True, help="PROGRAM is a module, as for python -m.")
@click.option("--store", help="Where records go: a folder, https://host:port, or 'off'.")
@click.option("--experiment", help="The group of runs that this run belongs to.")
@click.option("--name", help="The name of the run.")
@click.option("--serving", is_flag=True, default=None, help="Record the requests that it answers.")
@click.option("--quiet", is_flag=True, default=None, help="Print no line of our own.")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(module: bool, program: str, arguments: tuple[str, ...], **given: Any) -> Callable[[], int]:
    """Run PROGRAM with its ARGUMENTS, as python would, and record its training, or with --serving what it answers:
    looptap run --serving -m uvicorn app:app"""
    from looptap import launch

    if not module and not os.path.exists(program):
        hint = f"; for a module: looptap run -m {program}" if _is_module(program) else ""
        raise click.UsageError(f"no such file: {program}{hint}")
    start = launch.run_module if module else launch.run_script
    return lambda: start(program, arguments, given)


def _is_module(name: str) -> bool:
    from importlib.util import find_spec

    return name.isidentifier() and find_spec(name) is not None


@commands.command("sync")
@click.option(
    "--to", metavar="STORE", help="Another store than the one that was meant: a folder, or https://host:port."
)
@click.pass_context
def sync(context: click.Context, to: str | None) -> None:
    """Deliver what runs that were killed, or could not reach their store, left in the journal.

    The exit code is 1 when something had to stay.
    """
    result = _deliver(REQUEST_SECONDS, None if to is None else _target(to))
    if result.runs:
        many = "" if result.records == 1 else "s"
        click.echo(f"delivered {result.records:,} record{many} of {_some(result.runs, 'run')}")
    elif not result.kept:
        click.echo("nothing to deliver")
    for line in _waiting(result.kept):
        _say(line)
    context.exit(1 if result.kept else 0)


def _target(store: str) -> str:
    try:
        target = settings.store_to_read(store, "--to")
    except ValueError as error:
        raise _Refused(str(error)) from None
    if target == "off":
        raise _Refused("--to off would throw away what waits; give a folder, or the address of a collector")
    return target


class _Refused(click.ClickException):
    """What the user gave cannot be used, in one line."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        _say(self.message)


@commands.command("doctor")
def doctor() -> None:
    """Say what looptap would capture here, what not and why, and whether its places on disk are usable."""
    from looptap.doctor import report

    problems = 0
    for line in report():
        problems += line.startswith("!")
        click.echo(line)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
