"""``looptap dataset``: what runs were fed with, who else used it, and in what two runs differ there."""

from __future__ import annotations

import click

from looptap.events import Dataset
from looptap_collector.backend import Backend, DatasetUse
from looptap_collector.mistake import Mistake
from looptap_collector.printable import printable
from looptap_collector.store_option import opened, run_of, store_option

#: A shorter beginning of a fingerprint is too easily hit by accident.
_SHORTEST = 8


@click.group()
def dataset() -> None:
    """The data that runs were fed with: list it, find who used it, compare."""


@dataset.command("list")
@click.argument("run", default="latest")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def list_datasets(run: str, as_json: bool, store: str | None) -> None:
    """List the data sets of a RUN: an id, the beginning of one, a name, or 'latest' (the default)."""
    from looptap_collector import terminal
    from looptap_collector.datasets import dataset_fields, of_run
    from looptap_collector.record import to_json

    with run_of(store, run) as (backend, row):
        found = of_run(backend, row.run)
    if as_json:
        click.echo(to_json([dataset_fields(item) for item in found], indent=2))
    elif found:
        terminal.console().print(terminal.datasets_table(found))
    else:
        click.echo(printable(f"{row.name} has no datasets"))


@dataset.command("runs")
@click.argument("which", metavar="NAME_OR_FINGERPRINT")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def runs_of(which: str, as_json: bool, store: str | None) -> None:
    """Which runs used this data: by its name, or by its fingerprint (8 characters of its beginning or more) this very version
    of it, under whatever name. The latest first."""
    from looptap_collector import terminal
    from looptap_collector.datasets import named_uses
    from looptap_collector.record import to_json

    with opened(store) as backend:
        found = _uses(backend, which)
        if not found:
            raise Mistake(
                f"no run used data with the name or fingerprint {which!r}. See that of a run: looptap dataset list"
            )
        told = named_uses(backend, found)
    if as_json:
        click.echo(to_json(told, indent=2))
        return
    names = {item["run"]: item["run_name"] for item in told}
    table = terminal.datasets_table([use.dataset for use in found], [names.get(use.run, use.run) for use in found])
    terminal.console().print(table)


@dataset.command("compare")
@click.argument("first")
@click.argument("second", default="latest")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def compare(first: str, second: str, as_json: bool, store: str | None) -> None:
    """In what the data of two runs differs; the SECOND is the latest one if not given."""
    from looptap_collector import terminal
    from looptap_collector.datasets import compared, compared_fields, of_run
    from looptap_collector.record import to_json

    with run_of(store, first) as (backend, row):
        one: list[Dataset] = of_run(backend, row.run)
    with run_of(store, second) as (backend, other):
        found = compared(one, of_run(backend, other.run))
    if as_json:
        click.echo(to_json([compared_fields(item) for item in found], indent=2))
    elif found:
        click.echo(printable(f"{row.name} and {other.name}"))
        terminal.console().print(terminal.comparison_table(found))
    else:
        click.echo(printable(f"neither {row.name} nor {other.name} has datasets"))


def _uses(backend: Backend, which: str) -> list[DatasetUse]:
    from looptap_collector.datasets import MOST_USES, users_of
    from looptap_collector.query import can_be_stored

    if not can_be_stored(which):
        return []
    named = list(backend.datasets(name=which, limit=MOST_USES))
    if named:
        return named
    exact = list(users_of(backend, which, MOST_USES))
    if exact or len(which) < _SHORTEST:
        return exact
    every = backend.datasets(limit=MOST_USES)
    return [use for use in every if use.dataset.fingerprint is not None and use.dataset.fingerprint.startswith(which)]
