"""What a user of the command line did wrong."""

from __future__ import annotations

import sys
from typing import Any

import click

from looptap_collector.printable import printable


class Mistake(click.ClickException):
    """One clear line for the user."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"looptap: {printable(self.message)}", file=file or sys.stderr)
