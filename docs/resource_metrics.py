"""Writes the tables of metrics and of findings into docs/resources.md, from the readers and the rules themselves.

python docs/resource_metrics.py    # after a change of a reader's ``metrics``, or of a rule's threshold
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from looptap.resources.reader import Metric
from looptap.resources.sampler import COST, discover
from looptap_collector.profiles.rules import RULES

PAGE = Path(__file__).parent / "resources.md"
FINDINGS = "<!-- made by docs/resource_metrics.py from the rules -->"
#: From the program outwards.
_FIRST = ("process", "container", "host", "nvidia")
BEGIN, END = "<!-- made by docs/resource_metrics.py -->", "<!-- end -->"


def page(text: str, metrics: dict[str, tuple[Metric, ...]]) -> str:
    """The text of the page with the tables of now in it; ``metrics`` by reader."""
    return _filled(_filled(text, BEGIN, _table(metrics)), FINDINGS, _findings())


def _filled(text: str, begin: str, lines: Iterator[str]) -> str:
    before, _, rest = text.partition(begin)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"the page has no place for the table: {begin} … {END}")
    return f"{before}{begin}\n{''.join(lines)}{END}{after}"


def _findings() -> Iterator[str]:
    yield "| finding | told from | needs |\n|---|---|---|\n"
    for rule in RULES:
        yield f"| {rule.title} | {rule.threshold} | {rule.needs} |\n"


def _table(metrics: dict[str, tuple[Metric, ...]]) -> Iterator[str]:
    yield "| metric | unit | what | reader |\n|---|---|---|---|\n"
    readers: dict[Metric, list[str]] = {}
    for name, own in metrics.items():
        for metric in own:
            readers.setdefault(metric, []).append(name)
    for metric, names in readers.items():
        yield f"| `{metric.name}` | {metric.unit} | {metric.meaning} | {', '.join(names)} |\n"


def found() -> dict[str, tuple[Metric, ...]]:
    """Of our own readers, as they are registered, and of the sampler itself."""
    loaded = {name: load() for name, load in discover().items()}
    ours = {name: kind.metrics for name, kind in loaded.items() if kind.__module__.startswith("looptap.")}
    return {**dict(sorted(ours.items(), key=_place)), "sampler": (COST,)}


def _place(item: tuple[str, object]) -> tuple[int, str]:
    name = item[0]
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST)), name


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), found()))
