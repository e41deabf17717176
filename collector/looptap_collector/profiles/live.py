"""``looptap profile RUN --live``: asks the training itself, and says where the files are."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import click

from looptap_collector.mistake import Mistake
from looptap_collector.printable import printable
from looptap_collector.record import to_json
from looptap_collector.store_option import run_of, store_address


def take(which: str, seconds: float, as_json: bool, store: str | None) -> None:
    """Raises :class:`Mistake` in one line when there is no profile to be had."""
    from looptap.live.asking import CannotProfile, Ended, profile

    run, name, host = _asked_for(which, store)
    began_ns = time.time_ns()
    try:
        answer = profile(run, name, host, seconds, _Progress(seconds))
    except Ended as ended:
        # What it had by then it may have kept.
        if kept := _files(run, store, began_ns):
            _say(run, name, kept, [str(ended)], as_json)
            return
        raise Mistake(str(ended)) from None
    except CannotProfile as error:
        raise Mistake(str(error)) from None
    said = list(answer.said)
    if answer.files and not answer.is_stored:
        said.append("the files are not in the store yet; they follow when it can be reached")
    _say(run, name, answer.files, said, as_json)


def _asked_for(which: str, store: str | None) -> tuple[str, str, str | None]:
    """Id, name and host of the run: of a training that is under way here, or else of what the store says."""
    from looptap.live.asking import under_way

    if (found := under_way(which, store_address(store))) is not None:
        return found.run, found.run_name, found.host
    with run_of(store, which) as (_, run):
        if run.status != "running":
            raise Mistake(f"run {run.name} is {run.status}; only a run under way can be profiled")
        return run.run, run.name, run.identity.host


class _Progress:
    """One line on a terminal, rewritten; nothing elsewhere."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, what: str, elapsed: float) -> None:
        if not sys.stderr.isatty():
            return
        share = min(1.0, elapsed / self._seconds) if what == "taking" else 0.0
        bar = "█" * round(24 * share)
        words = f"{bar:░<24} {elapsed:5.1f} s" if what == "taking" else "waiting for the training to hear of it"
        click.echo(f"\r\x1b[2K{words}", err=True, nl=False)


def _files(run: str, store: str | None, since_ns: int) -> list[str]:
    """Of profiles that have come into the store since then; none where nobody can tell."""
    with suppress(Mistake), run_of(store, run) as (backend, row):
        found = backend.artifacts(row.run)
        return [item.name for item in found if item.kind == "profile" and item.time_ns >= since_ns]
    return []


def _say(run: str, name: str, files: Sequence[str], said: Sequence[str], as_json: bool) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[2K", err=True, nl=False)
    if as_json:
        click.echo(to_json({"run": run, "files": list(files), "said": list(said)}, indent=2))
        return
    for file in files:
        click.echo(printable(f"looptap artifact get {name} {file}"))
    for line in said:
        click.echo(printable(f"note: {line}"))
    if any(file.endswith((".json", ".json.gz")) for file in files):
        click.echo("the .json files open at https://ui.perfetto.dev, which keeps them on your machine")
