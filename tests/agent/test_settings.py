"""Settings: one table, one order of places, and no mistake in them stops a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from looptap.settings import TABLE, journal_root, load, resolve_store


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LOOPTAP_STORE")
    return folder.parent


def test_argument_beats_variable_beats_project_beats_default(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first place that has a value wins."""
    assert load()[0].experiment == "default"
    (project / "pyproject.toml").write_text('[tool.looptap]\nexperiment = "from project"\nquiet = true\n')
    assert load()[0].experiment == "from project"
    monkeypatch.setenv("LOOPTAP_EXPERIMENT", "from variable")
    assert load()[0].experiment == "from variable"
    loaded, problems = load({"experiment": "from argument", "name": None})
    assert loaded.experiment == "from argument"
    assert loaded.quiet
    assert problems == []


@pytest.mark.parametrize("name", ["LOOPTAP_QUIET", "LOOPTAP_JOURNAL_MIB", "LOOPTAP_EXIT_TIMEOUT"])
def test_unreadable_value_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that cannot be read falls back to the next place and says so, naming the place."""
    monkeypatch.setenv(name, "perhaps")
    loaded, problems = load()
    assert loaded == load({})[0]
    assert len(problems) == 1
    assert problems[0].startswith(f"{name}: ")


def test_unknown_names(project: Path) -> None:
    """An unknown argument raises like any wrong argument; an unknown key in pyproject.toml is one line."""
    with pytest.raises(TypeError, match="no setting 'storr'"):
        load({"storr": "x"})
    (project / "pyproject.toml").write_text("[tool.looptap]\nstorr = 1\n")
    assert load()[1] == ["pyproject.toml: [tool.looptap] has no setting 'storr'"]


def test_broken_project_file_is_ignored(project: Path) -> None:
    """A pyproject.toml that is no TOML belongs to somebody else's error message."""
    (project / "pyproject.toml").write_text("[tool.looptap\n")
    assert load()[0].experiment == "default"


def test_store_is_found_upwards(project: Path) -> None:
    """The nearest .looptap wins, then the root of the git repository, then the working directory."""
    assert resolve_store() == str(project / "deep" / ".looptap")
    (project / ".git").mkdir()
    assert resolve_store() == str(project / ".looptap")
    (project / "deep" / ".looptap").mkdir()
    assert resolve_store() == str(project / "deep" / ".looptap")
    assert resolve_store("off") == "off"
    assert resolve_store("elsewhere") == str(project / "deep" / "elsewhere")


def test_journal_is_in_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG_STATE_HOME, else ~/.local/state; a relative XDG_STATE_HOME counts as unset, as its specification says."""
    assert journal_root() == tmp_path / "state" / "looptap" / "journal"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert journal_root() == tmp_path / ".local" / "state" / "looptap" / "journal"
    monkeypatch.setenv("LOOPTAP_JOURNAL", str(tmp_path / "mine"))
    assert journal_root() == tmp_path / "mine"


def test_every_setting_is_documented() -> None:
    """Each setting says what it does, and the README or the docs list it."""
    documented = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()
    for name, item in TABLE.items():
        assert item.metadata["help"]
        assert f"`{name}`" in documented, name
