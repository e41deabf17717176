"""The commands that look at a store: ``runs``, ``show``, ``export``, ``profile``, ``artifact``, ``dataset``, ``serving``, ``ui``.

``looptap.cli`` registers :data:`COMMANDS` and hands over, as the context's ``obj``, a function that tells
how many records wait in a journal on this machine (:data:`looptap_collector.query.InJournal`), or None.
What is wrong with a call is told in one line (what, where, how to mend it), with exit code 2. What only one
command needs is imported inside it: ``looptap --help`` should answer at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from looptap_collector.artifact_cli import artifact
from looptap_collector.backend import Backend, RunRow, Unavailable
from looptap_collector.dataset_cli import dataset
from looptap_collector.mistake import Mistake
from looptap_collector.printable import printable
from looptap_collector.profile_cli import profile
from looptap_collector.query import InJournal, found_runs
from looptap_collector.server.cli import COMMANDS as SERVER_COMMANDS
from looptap_collector.serving_cli import serving
from looptap_collector.store_cli import store as store_group
from looptap_collector.store_option import opened, run_of, store_address, store_option

if TYPE_CHECKING:
    from looptap_collector.filters import FilterError

_JSON_HELP = "Print JSON. NaN and infinities are the strings NaN, Infinity and -Infinity; integers are exact."


class WrongQuestion(Mistake):
    """What is wrong with a filter or an order, with a caret under the place where."""

    def __init__(self, error: FilterError) -> None:
        super().__init__(f"--{error.field}: {error.message}")
        self.text = error.text
        self.position = error.position

    def show(self, file: Any = None) -> None:
        super().show(file)
        first = max(0, self.position - 60)
        # Character by character, so that the caret stays where it belongs.
        shown = "".join(character if character.isprintable() else " " for character in self.text[first : first + 100])
        click.echo(f"  {shown}\n  {' ' * (self.position - first)}^", file=file or sys.stderr)


@click.command()
@click.option("--experiment", metavar="NAME", help="Only runs of this experiment.")
@click.option(
    "--filter", "text", metavar="FILTER", help="Only runs like these: 'params.lr = 0.001 and metrics.loss < 0.3'."
)
@click.option(
    "--order",
    multiple=True,
    metavar="FIELD",
    help="Sort by this field, with - in front for the greatest first: -metrics.acc.max. Again for the next field. "
    "Default: -started.",
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many runs.")
@click.option("--json", "as_json", is_flag=True, help=_JSON_HELP)
@store_option
def runs(
    experiment: str | None, text: str | None, order: tuple[str, ...], limit: int, as_json: bool, store: str | None
) -> None:
    """List the runs of a store, newest first. The language of filters: docs/filters.md."""
    from looptap_collector import terminal
    from looptap_collector.record import listed, to_json
    from looptap_collector.serving.of_run import models_of

    with opened(store) as backend:
        rows = _asked(backend, text, experiment, order, limit)
        if as_json:
            click.echo(to_json(listed(backend, rows), indent=2))
            return
        if not rows and text is not None:
            click.echo("no runs are like that")
            return
        if not rows:
            of = f" of experiment {experiment!r}" if experiment is not None else ""
            click.echo(printable(f"no runs{of} yet; record one: looptap run train.py"))
            return
        ids = [row.run for row in rows]
        terminal.console().print(
            terminal.runs_table(rows, backend.series(ids), backend.alert_counts(ids), serves=models_of(backend, rows))
        )
        if len(rows) == limit:
            click.echo(f"the {'first' if order else 'newest'} {limit}; more with --limit")


def _asked(
    backend: Backend, text: str | None, experiment: str | None, order: tuple[str, ...], limit: int
) -> list[RunRow]:
    from looptap_collector.filters import FilterError, narrowed

    try:
        return list(found_runs(backend, narrowed(text, experiment=experiment), order, limit))
    except FilterError as error:
        raise WrongQuestion(error) from error


@click.command()
@click.argument("run", default="latest")
@click.option("--json", "as_json", is_flag=True, help=f"The whole record. {_JSON_HELP}")
@store_option
@click.pass_obj
def show(in_journal: InJournal | None, run: str, as_json: bool, store: str | None) -> None:
    """Show one RUN: an id, the beginning of one, a name, or 'latest' (the default)."""
    from looptap_collector import terminal
    from looptap_collector.record import run_record, to_json

    with run_of(store, run) as (backend, found):
        if as_json:
            click.echo(to_json(run_record(backend, found, in_journal), indent=2))
        else:
            terminal.show_run(terminal.console(), backend, found, in_journal)


@click.command()
@click.argument("run", default="latest")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["parquet", "csv", "jsonl"]),
    required=True,
    help="jsonl: NaN and infinities are the strings NaN, Infinity and -Infinity. csv: nan, inf and -inf; "
    "text that a spreadsheet would take for a formula gets a ' in front.",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Where to write; - is the standard output. Default: NAME.FORMAT here, of alerts NAME.alerts.FORMAT.",
)
@click.option(
    "--what",
    type=click.Choice(["points", "alerts"]),
    default="points",
    show_default=True,
    help="alerts: run, time, kind, severity, state, message, key, value, threshold, step, rank.",
)
@store_option
def export(run: str, file_format: str, output: str | None, what: str, store: str | None) -> None:
    """Write all points of a RUN as one long table: run, key, context, step, time, value; or its alerts."""
    from looptap_collector.export import default_file_name, export_run, export_to_stream

    with run_of(store, run) as (backend, found):
        try:
            if output == "-":
                export_to_stream(backend, found, file_format, sys.stdout.buffer, what)
                return
            path = Path(output) if output else Path(default_file_name(found, file_format, what))
            count = export_run(backend, found, file_format, path, what)
        except ModuleNotFoundError as error:
            raise Mistake(str(error)) from error
        except (BrokenPipeError, Unavailable):
            raise
        except OSError as error:
            raise Mistake(f"cannot write {error.filename or output}: {error.strerror or error}") from error
    click.echo(f"{count:,} {what if count != 1 else what[:-1]} → {path}")


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="An address of this machine. Others can read it!")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@store_option
@click.pass_obj
def ui(in_journal: InJournal | None, port: int, host: str, no_browser: bool, store: str | None) -> None:
    """Serve the store as a web page, until Ctrl-C."""
    address = store_address(store)
    try:
        from looptap_collector.server.binding import CannotServe
        from looptap_collector.web.server import serve
    except ModuleNotFoundError as error:
        raise Mistake(f"the page needs {error.name}: pip install 'looptap[collector]'") from error

    try:
        serve(address, in_journal, host=host, port=port, browser=not no_browser)
    except CannotServe as error:
        raise Mistake(str(error)) from error


COMMANDS: list[click.Command] = [
    runs,
    show,
    profile,
    export,
    artifact,
    dataset,
    serving,
    ui,
    store_group,
    *SERVER_COMMANDS,
]
