"""The import hook: fires once, after the module's own code, and leaves no trace in module, loader or sys.meta_path."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from looptap import importing


@pytest.fixture(autouse=True)
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "made_up_package"
    package.mkdir()
    (package / "__init__.py").write_text("import made_up_package.inner\nVALUE = 3\n")
    (package / "inner.py").write_text("INNER = 4\n")
    (tmp_path / "made_up_broken.py").write_text("raise ValueError('their own error')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = list(sys.meta_path)
    yield
    assert sys.meta_path == before
    for name in [name for name in sys.modules if name.startswith("made_up")]:
        del sys.modules[name]


def test_fires_after_the_module_is_whole() -> None:
    """The hook sees the finished module; loader and spec are what they are without us."""
    seen: list[object] = []
    importing.when_imported("made_up_package", lambda module: seen.append((module.VALUE, module.inner.INNER)))
    module = importlib.import_module("made_up_package")
    assert seen == [(3, 4)]
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    assert "exec_module" not in vars(module.__loader__)
    importlib.reload(module)
    assert len(seen) == 1


def test_already_imported() -> None:
    """A module that is there already: at once."""
    seen: list[ModuleType] = []
    importing.when_imported("json", seen.append)
    assert seen == [sys.modules["json"]]


def test_submodule() -> None:
    """A dotted name is watched like any other."""
    seen: list[str] = []
    importing.when_imported("made_up_package.inner", lambda module: seen.append(module.__name__))
    importlib.import_module("made_up_package")
    assert seen == ["made_up_package.inner"]


def test_their_error_is_theirs() -> None:
    """A module that fails to import raises what it would raise without us, and can be tried again."""
    seen: list[ModuleType] = []
    importing.when_imported("made_up_broken", seen.append)
    for _ in range(2):
        with pytest.raises(ValueError, match="their own error"):
            importlib.import_module("made_up_broken")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("made_up_missing")
    assert seen == []
    importing.forget(seen.append)


def test_looking_is_not_importing() -> None:
    """find_spec alone, as programs use it to ask whether a package is installed, does not fire; the import after it does."""
    seen: list[str] = []
    importing.when_imported("made_up_package", lambda module: seen.append(module.__name__))
    assert importlib.util.find_spec("made_up_package") is not None
    assert importlib.util.find_spec("made_up_missing") is None
    assert seen == []
    importlib.import_module("made_up_package")
    assert seen == ["made_up_package"]


def test_forget() -> None:
    """A forgotten hook does not fire."""
    seen: list[ModuleType] = []
    hook = seen.append
    importing.when_imported("made_up_package", hook)
    importing.forget(hook)
    importlib.import_module("made_up_package")
    assert seen == []
