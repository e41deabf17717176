"""``looptap profile RUN --live``: asks the training itself, and says where the files are."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from looptap_collector.backend import Backend, RunRow
from looptap_collector.mistake import Mistake
from looptap_collector.printable import printable
from looptap_collector.record import to_json
from looptap_collector.store_option import run_of


def take(which: str, seconds: float, as_json: bool, store: str | None) -> None:
    """Raises :class:`Mistake` in one line when there is no profile to be had."""
    from looptap.live.asking import CannotProfile, Ended, profile

    with run_of(store, which) as (backend, run):
        if run.status != "running":
            raise Mistake(f"run {run.name} is {run.status}; only a run under way can be profiled")
        known = _files(backend, run)
        try:
            answer = profile(run.run, run.name, run.identity.host, seconds, _Progress(seconds))
        except Ended as ended:
            # What it had by then it may have kept.
            if kept := [name for name in _files(backend, run) if name not in known]:
                _say(run, kept, [str(ended)], as_json)
                return
            raise Mistake(str(ended)) from None
        except CannotProfile as error:
            raise Mistake(str(error)) from None
    said = list(answer.said)
    if not answer.is_stored:
        said.append("the files are not in the store yet; they follow when it can be reached")
    _say(run, answer.files, said, as_json)


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


def _files(backend: Backend, run: RunRow) -> list[str]:
    return [item.name for item in backend.artifacts(run.run) if item.kind == "profile"]


def _say(run: RunRow, files: Sequence[str], said: Sequence[str], as_json: bool) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[2K", err=True, nl=False)
    if as_json:
        click.echo(to_json({"run": run.run, "files": list(files), "said": list(said)}, indent=2))
        return
    for name in files:
        click.echo(printable(f"looptap artifact get {run.name} {name}"))
    for line in said:
        click.echo(printable(f"note: {line}"))
    if any(name.endswith((".json", ".json.gz")) for name in files):
        click.echo("the .json files open at https://ui.perfetto.dev, which keeps them on your machine")
