"""The command line. ``run``, ``doctor`` and ``sync`` need the agent only; commands that read come with the collector."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from looptap import __version__, adoption, settings
from looptap.sinks import REQUEST_SECONDS, open_sink

_ASIDE_SECONDS = 3.0


class Commands(click.Group):
    """Our own commands and the collector's, which are imported only when one of them is asked for."""

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
        names = ("runs", "show", "export", "artifact", "ui", "store", "server", "token")
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
        # Whatever a killed run left behind is in the store before anything is read from it.
        deliver(quiet=context.invoked_subcommand != "sync")


def deliver(quiet: bool) -> None:
    """Deliver what dead processes left in their journals; one line for each journal that has to stay."""
    root = settings.journal_root()
    if root is None or not root.is_dir():
        if not quiet:
            click.echo("nothing to deliver")
        return
    # Who has asked for something else waits for a silent collector only so long.
    seconds = REQUEST_SECONDS if not quiet else _ASIDE_SECONDS
    result = adoption.deliver_abandoned(root, partial(open_sink, seconds=seconds))
    for run in result.runs:
        click.echo(f"looptap: found what run {run} left behind and stored it", err=True)
    for folder, reason in result.kept.items():
        click.echo(f"looptap: kept {folder}: {reason}", err=True)
    if not quiet and not result.runs:
        click.echo("nothing to deliver")


@commands.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "module", is_flag=True, help="PROGRAM is a module, as for python -m.")
@click.option("--store", help="Where records go: a folder, https://host:port, or 'off'.")
@click.option("--experiment", help="The group of runs that this run belongs to.")
@click.option("--name", help="The name of the run.")
@click.option("--quiet", is_flag=True, default=None, help="Print no line of our own.")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(module: bool, program: str, arguments: tuple[str, ...], **given: Any) -> Callable[[], int]:
    """Run PROGRAM with its ARGUMENTS, as python would, and record its training."""
    from looptap import launch

    if not module and not os.path.exists(program):
        raise click.UsageError(f"no such file: {program}")
    start = launch.run_module if module else launch.run_script
    return lambda: start(program, arguments, given)


@commands.command("sync")
def sync() -> None:
    """Deliver what runs that were killed, or could not reach their store, left in the journal."""


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
