"""``looptap profile``: where the time of a run went, and what held it back."""

from __future__ import annotations

import click

from looptap_collector.store_option import run_of, store_option


@click.command()
@click.argument("run", default="latest")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--price", type=click.FloatRange(min=0), metavar="AMOUNT", help="What an hour of all that the run had costs."
)
@click.option("--grid", type=click.FloatRange(min=0), metavar="KG", help="kg of CO₂e for each kWh of your power.")
@click.option(
    "--live", is_flag=True, help="Take a profile of a RUN that trains now on this machine: stacks, and a trace."
)
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=10, show_default=True, help="With --live: how long it takes."
)
@store_option
def profile(
    run: str,
    as_json: bool,
    price: float | None,
    grid: float | None,
    live: bool,
    seconds: float,
    store: str | None,
) -> None:
    """Where the time of a RUN went, and what held it back: findings, worst first. RUN as in `looptap show`."""
    if live:
        from looptap_collector.profiles.live import take

        take(run, seconds, as_json, store)
        return
    from looptap_collector.profiles.profile import profile_of
    from looptap_collector.record import to_json

    with run_of(store, run) as (backend, found):
        made = profile_of(backend, found, price_per_hour=price, grid_kg_per_kwh=grid)
    if as_json:
        import msgspec

        click.echo(to_json(msgspec.to_builtins(made), indent=2))
        return
    from looptap_collector.profiles.terminal import show_profile
    from looptap_collector.terminal import console

    show_profile(console(), made)
