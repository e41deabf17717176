"""Who may import whom. The rules are those of the design; this test reads every import statement of the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    "looptap": ROOT / "agent" / "looptap",
    "looptap_integrations": ROOT / "integrations" / "looptap_integrations",
    "looptap_collector": ROOT / "collector" / "looptap_collector",
}
AGENT_LIBRARIES = {
    "click",
    "msgspec",
    "packaging",
    "psutil",
    "pynvml",
    "requests",
    "tomli",
    "urllib3",
    "wrapt",
    "zstandard",
}
#: The one door through which the agent reaches the collector, always inside a function, never at import time.
DOORS = {"sinks.py", "reading", "cli.py"}
#: Modules of the integrations that several of them use.
SHARED = {"rings"}
#: What else a module may import, of what its framework stands on; inside functions, where that may be absent.
BACKENDS = {"keras": {"tensorflow", "tf_keras", "torch", "jax", "numpy"}, "rings": {"tensorflow", "numpy"}}
FRAMEWORKS = {"torch", "keras", "tensorflow", "jax", "lightning", "transformers", "numpy"}


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; with ``top_level`` only those that run when the file is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped.update(inner for item in node.body for inner in ast.walk(item))
        if top_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            if node.module == "__future__":
                continue
            yield f"{node.module}.{node.names[0].name}"


def files(package: str) -> list[Path]:
    found = sorted(SOURCES[package].rglob("*.py"))
    assert found, f"{package} has no files"
    return found


def is_standard(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names


def test_events_stand_on_msgspec_alone() -> None:
    """What agent and collector share imports the standard library, msgspec and itself only."""
    shared = [SOURCES["looptap"] / "events.py", *sorted((SOURCES["looptap"] / "sketches").glob("*.py"))]
    outside = {name for path in shared for name in imports(path) if not is_standard(name)}
    assert {name.split(".")[0] for name in outside if not name.startswith("looptap.sketches")} == {"msgspec"}


@pytest.mark.parametrize("path", files("looptap"), ids=lambda path: path.name)
def test_agent_is_light(path: Path) -> None:
    """The agent imports itself and its light dependencies; a framework never, the collector never at import time."""
    for name in imports(path):
        root = name.split(".")[0]
        assert root not in FRAMEWORKS, f"{path.name} imports {name}"
        assert root != "looptap_integrations", f"{path.name} imports {name}"
    for name in imports(path, top_level=True):
        root = name.split(".")[0]
        assert is_standard(name) or root == "looptap" or root in AGENT_LIBRARIES, f"{path.name} imports {name}"
    if any(name.startswith("looptap_collector") for name in imports(path)):
        assert path.relative_to(SOURCES["looptap"]).parts[0] in DOORS, f"{path.name} reaches into the collector"


@pytest.mark.parametrize("path", files("looptap_integrations"), ids=lambda path: str(path.relative_to(ROOT)))
def test_integrations_stand_alone(path: Path) -> None:
    """An integration imports looptap, its own framework and its own folder; never another integration, but for what is shared."""
    inside = path.relative_to(SOURCES["looptap_integrations"])
    # numpy.random has an integration of its own.
    own = inside.parts[0].removesuffix(".py").removesuffix("_files")
    frameworks = {own, *BACKENDS.get(own, ())}
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "looptap_integrations":
            assert parts[1] == own or parts[1] in SHARED, f"{inside} imports {name}"
        else:
            assert is_standard(name) or parts[0] in {"looptap", *frameworks}, f"{inside} imports {name}"


@pytest.mark.parametrize("path", files("looptap_collector"), ids=lambda path: str(path.relative_to(ROOT)))
def test_collector_knows_only_the_events_of_the_agent(path: Path) -> None:
    """The collector imports looptap.events, looptap.sketches and itself; no other part of the agent at import time, no
    integration ever."""
    for name in imports(path):
        assert not name.startswith("looptap_integrations"), f"{path.name} imports {name}"
    for name in imports(path, top_level=True):
        if name.split(".")[0] == "looptap":
            assert name.startswith(("looptap.events", "looptap.sketches")), f"{path.name} imports {name}"
