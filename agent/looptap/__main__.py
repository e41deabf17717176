"""``python -m looptap`` is the ``looptap`` command: for launchers that start Python modules, such as torchrun."""

from __future__ import annotations

from looptap.cli import main

main()
