"""``looptap serving``: what served models answer, now and before."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from looptap_collector.backend import Backend, Unavailable
from looptap_collector.mistake import Mistake
from looptap_collector.store_option import opened, store_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from looptap_collector.serving.shapes import Report

_REFRESH_SECONDS = 5.0


@click.command()
@click.argument("name", required=False)
@click.option("--since", default="1h", show_default=True, metavar="SPAN", help="How far back: 10m, 1h 30m, 7d.")
@click.option(
    "--watch/--once",
    default=None,
    help="Look again every few seconds until Ctrl-C. Default: as long as it is a terminal.",
)
@click.option("--no-drift", is_flag=True, help="Compare with nothing: quicker.")
@click.option(
    "--compare", is_flag=True, help="Hold two versions against each other: errors, latency, outcomes, predictions."
)
@click.option("--inputs", is_flag=True, help="What it was asked and answered: calls that were kept on request.")
@click.option(
    "--version",
    "versions",
    multiple=True,
    metavar="VERSION",
    help="Only this one, by its beginning. With --compare, twice: which two. Default: those that were asked last.",
)
@click.option(
    "--otlp",
    metavar="TARGET",
    help="Tell the windows as OpenTelemetry metrics: to a file, or to http://localhost:4318/v1/metrics.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, once.")
@store_option
def serving(
    name: str | None,
    since: str,
    watch: bool | None,
    no_drift: bool,
    compare: bool,
    inputs: bool,
    versions: tuple[str, ...],
    otlp: str | None,
    as_json: bool,
    store: str | None,
) -> None:
    """What the model NAME answers, by version: requests, errors, latency, predictions, the training it comes from, and drift.
    Without a NAME: which models are served. NAME '' is requests that asked no model."""
    span_ns = _span(since)
    if compare and name is None:
        raise Mistake("--compare needs the NAME of a model: looptap serving NAME --compare")
    if inputs and (name is None or compare or otlp is not None):
        raise Mistake("--inputs needs the NAME of a model, and goes with --since, --version and --json only")
    if versions and len(versions) != 1 + compare:
        raise Mistake(
            "--version is given twice with --compare (the version that is there, and the one that is to come), else once"
        )
    if versions and name is None:
        raise Mistake("--version needs the NAME of a model: looptap serving NAME --version VERSION")
    only = versions[0] if versions and not compare else None
    with opened(store) as backend:
        if otlp is not None:
            _export(backend, name, span_ns, otlp)
            return
        if compare and name is not None:
            _compare(backend, name, span_ns, versions, as_json)
            return
        if inputs and name is not None:
            _inputs(backend, name, span_ns, only or "", as_json)
            return
        if as_json:
            click.echo(_json(backend, name, span_ns, not no_drift, only))
            return
        if watch is None:
            watch = sys.stdout.isatty()
        if watch:
            _watch(backend, name, span_ns, not no_drift, only)
            return
        from looptap_collector import terminal

        terminal.console().print(_look(backend, name, span_ns, not no_drift, only))


def _span(since: str) -> int:
    from looptap_collector.filters import FilterError
    from looptap_collector.filters.literals import duration_ns

    try:
        return duration_ns(f"{since}s" if since.replace(".", "", 1).isdecimal() else since, 0)
    except FilterError as error:
        raise Mistake(f"--since: {error.message}") from error


def _report(backend: Backend, name: str, span_ns: int, drift: bool, only: str | None) -> Report:
    """``only``: the version that begins so."""
    import msgspec

    from looptap_collector.serving.report import report

    now_ns = time.time_ns()
    told = report(backend, name, since_ns=now_ns - span_ns, until_ns=now_ns, drift=drift)
    if not told.versions:
        _known(backend, name)
    elif only is not None:
        found = [one for one in told.versions if (one.version or "unknown").startswith(only)]
        if not found:
            there = ", ".join((one.version or "unknown")[:12] for one in told.versions)
            raise Mistake(f"no version that begins with {only!r} was asked in that time; there are: {there}")
        return msgspec.structs.replace(told, versions=found)
    return told


def _look(backend: Backend, name: str | None, span_ns: int, drift: bool, only: str | None) -> RenderableType:
    from looptap_collector.serving import terminal

    now_ns = time.time_ns()
    if name is not None:
        return terminal.picture(_report(backend, name, span_ns, drift, only))
    served = backend.served(since_ns=now_ns - span_ns)
    return terminal.models_table(served, now_ns) if served else "no model was asked in that time; try a longer --since"


def _known(backend: Backend, name: str) -> None:
    """Raises :class:`Mistake` for a model that nobody ever served."""
    names = sorted({one.model for one in backend.served() if one.model})
    if name and name not in names:
        there = f"there are: {', '.join(names)}" if names else "none is in this store"
        raise Mistake(f"no model {name!r} was ever served; {there}")


def _json(backend: Backend, name: str | None, span_ns: int, drift: bool, only: str | None) -> str:
    import msgspec

    from looptap_collector.record import to_json

    if name is None:
        found = {"models": msgspec.to_builtins(list(backend.served(since_ns=time.time_ns() - span_ns)))}
    else:
        found = msgspec.to_builtins(_report(backend, name, span_ns, drift, only))
    return to_json(found, indent=2)


def _compare(backend: Backend, name: str, span_ns: int, versions: tuple[str, ...], as_json: bool) -> None:
    from looptap_collector import terminal
    from looptap_collector.serving.experiment import NoVersions, experiment

    first, second = versions or (None, None)
    now_ns = time.time_ns()
    try:
        found = experiment(backend, name, since_ns=now_ns - span_ns, until_ns=now_ns, first=first, second=second)
    except NoVersions as error:
        _known(backend, name)
        raise Mistake(f"{error}. Try a longer --since") from error
    if as_json:
        import msgspec

        from looptap_collector.record import to_json

        click.echo(to_json(msgspec.to_builtins(found), indent=2))
        return
    from looptap_collector.serving.terminal import comparison_picture

    terminal.console().print(comparison_picture(found))


def _inputs(backend: Backend, name: str, span_ns: int, version: str, as_json: bool) -> None:
    from looptap_collector.serving.examples import examples

    now_ns = time.time_ns()
    found = examples(backend, name, since_ns=now_ns - span_ns, until_ns=now_ns, version=version)
    if not found.examples:
        _known(backend, name)
    if as_json:
        import msgspec

        from looptap_collector.record import to_json

        click.echo(to_json(msgspec.to_builtins(found), indent=2))
        return
    if not found.examples:
        click.echo("no call was kept in that time; looptap.watch(…, inputs=0.01) keeps one in a hundred")
        return
    from looptap_collector import terminal
    from looptap_collector.serving.terminal import examples_picture

    terminal.console().print(examples_picture(found))


def _export(backend: Backend, name: str | None, span_ns: int, target: str) -> None:
    from looptap_collector.backend import WindowQuery, all_windows

    try:
        from looptap_collector.serving.otlp_target import NotTaken, export
    except ModuleNotFoundError as error:
        raise Mistake(f"--otlp needs {error.name}: pip install 'looptap[otlp]'") from error

    query = WindowQuery(models=None if name is None else (name,), since_ns=time.time_ns() - span_ns)
    try:
        count = export(all_windows(backend, query), target)
    except NotTaken as error:
        raise Mistake(str(error)) from error
    except Unavailable:
        raise
    except OSError as error:
        raise Mistake(f"cannot write {error.filename or target}: {error.strerror or error}") from error
    click.echo(f"{count:,} window{'' if count == 1 else 's'} → {target}")


def _watch(backend: Backend, name: str | None, span_ns: int, drift: bool, only: str | None) -> None:
    """What does not fit on the terminal is there once it is over."""
    from rich.live import Live

    from looptap_collector import terminal

    console = terminal.console()
    shown = _look(backend, name, span_ns, drift, only)
    try:
        with Live(shown, console=console, auto_refresh=False, transient=True) as live:
            live.refresh()
            while True:
                time.sleep(_REFRESH_SECONDS)
                shown = _look(backend, name, span_ns, drift, only)
                live.update(shown, refresh=True)
    except KeyboardInterrupt:
        console.print(shown)
