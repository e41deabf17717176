"""Writes the tables *what is captured, from where, at what cost* into the frameworks' pages, from the integrations themselves.

    python docs/captures.py            # after a change of an integration's ``captures``, or of benchmarks/budget.toml

A cost that is a key of the budget is shown as that budget: what ``python benchmarks/hooks.py`` or ``serving.py`` holds the hook to.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from looptap import registry
from looptap.integration import Integration

ROOT = Path(__file__).parent.parent
#: Whose table is on which page, by the modules that wake them; the first page has all that are on no other.
PAGES: dict[Path, tuple[str, ...]] = {
    ROOT / "docs" / "pytorch.md": (),
    ROOT / "docs" / "keras.md": ("keras", "tf_keras"),
    ROOT / "docs" / "tensorflow.md": ("tensorflow", "tensorflow_datasets"),
    ROOT / "docs" / "serving.md": (
        "django.core.handlers.asgi",
        "django.core.handlers.wsgi",
        "flask",
        "grpc",
        "onnxruntime",
        "starlette.applications",
        "uvicorn.server",
    ),
}
BEGIN, END = "<!-- made by docs/captures.py -->", "<!-- end -->"


def pages(integrations: Mapping[str, type[Integration]], budget: Mapping[str, float]) -> Iterator[tuple[Path, str]]:
    """Every page, with the table of now in it. ``budget``: nanoseconds by hook."""
    elsewhere = {name for names in PAGES.values() for name in names}
    for path, names in PAGES.items():
        shown = {name: integrations[name] for name in names or integrations.keys() - elsewhere}
        yield path, page(path.name, path.read_text(), shown, budget)


def page(name: str, text: str, integrations: Mapping[str, type[Integration]], budget: Mapping[str, float]) -> str:
    """The text of this page with the table of now in it."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{name} has no place for the table: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{''.join(_table(integrations, budget))}{END}{after}"


def _table(integrations: Mapping[str, type[Integration]], budget: Mapping[str, float]) -> Iterator[str]:
    yield "| what | from where | when | cost |\n|---|---|---|---|\n"
    by_class: dict[type[Integration], list[str]] = {}
    for name, kind in sorted(integrations.items()):
        by_class.setdefault(kind, []).append(name)
    for kind, names in sorted(by_class.items(), key=lambda item: (item[1][0] != "torch", item[1][0])):
        needs = f" ({_cell(kind.requires)})" if kind.requires else ""
        yield f"| **{', '.join(names)}**{needs} | | | |\n"
        for capture in kind.captures:
            cost = capture.cost
            if cost in budget:
                cost = f"≤ {budget[cost] / 1000:g} µs"
            yield f"| {_cell(capture.what)} | {_cell(capture.source)} | {_cell(capture.when)} | {_cell(cost)} |\n"
        for text in kind.not_captured:
            yield f"| *not:* {_cell(text)} | | | |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def found() -> dict[str, type[Integration]]:
    """Our own integrations, by the module that wakes them."""
    loaded = {name: load() for name, load in registry.discover()}
    return {name: kind for name, kind in loaded.items() if kind.__module__.startswith("looptap_integrations.")}


def budget() -> dict[str, float]:
    path = ROOT / "benchmarks" / "budget.toml"
    if not path.exists():
        return {}
    tables = tomllib.loads(path.read_text())
    return {key: float(value) for name in ("nanoseconds", "serving") for key, value in tables[name].items()}


if __name__ == "__main__":
    for changed, text in pages(found(), budget()):
        changed.write_text(text)
