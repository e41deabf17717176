"""Settings: one table, one order of places, and no mistake in them stops a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from looptap.settings import TABLE, Settings, journal_root, load, resolve_store, store_to_read


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LOOPTAP_STORE")
    monkeypatch.delenv("LOOPTAP_RESOURCES")
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


@pytest.mark.parametrize(
    ("given", "store"),
    [
        ("https://host", "https://host"),
        ("HTTPS://Host:8766/", "https://Host:8766"),
        ("http://[::1]:8766/", "http://[::1]:8766"),
        ("off", "off"),
        ("some/folder", "some/folder"),
    ],
)
def test_address_of_a_collector(monkeypatch: pytest.MonkeyPatch, given: str, store: str) -> None:
    """An address is kept without the slash at its end; everything else is a folder."""
    monkeypatch.setenv("LOOPTAP_STORE", given)
    assert load() == (Settings(store=store), [])


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hunter2@host",
        "https://hunter2@host",
        "https://host/?token=hunter2",
        "https://host/#hunter2",
        "https://host:hunter2",
        "https://host/hunter2",
        "https://:hunter2@",
        "https://[hunter2",
        "postgresql://me:hunter2@host/db",
        "ftp://hunter2",
    ],
)
def test_address_with_a_secret_is_left_out(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Such an address is refused in one line, which does not show it."""
    monkeypatch.setenv("LOOPTAP_STORE", address)
    loaded, problems = load()
    assert loaded.store == ""
    (problem,) = problems
    assert problem.startswith("LOOPTAP_STORE: store was left out: ")
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("address", "mend"),
    [
        (
            "postgresql://me:hunter2@db/x",
            "a database is written and read through its collector: looptap server --store …",
        ),
        ("htp://hunter2", "expected a folder, 'off' or the address of a collector, https://host:port"),
        ("http://me:hunter2@host", "give the token as LOOPTAP_TOKEN"),
        ("http://127.0.0.1:99999", "expected https://host:port"),
        ("http://host/path", "has no path; expected https://host:port"),
    ],
)
def test_whoever_reads_gets_no_other_store(
    project: Path, monkeypatch: pytest.MonkeyPatch, address: str, mend: str
) -> None:
    """A store that cannot be used is refused wherever it was given, named by its place; the next place is not asked."""
    with pytest.raises(ValueError, match=r"^--store cannot be used: ") as given:
        store_to_read(address, "--store")
    monkeypatch.setenv("LOOPTAP_STORE", address)
    with pytest.raises(ValueError, match=r"^LOOPTAP_STORE cannot be used: ") as variable:
        store_to_read()
    assert store_to_read("elsewhere") == str(project / "deep" / "elsewhere")
    monkeypatch.delenv("LOOPTAP_STORE")
    (project / "pyproject.toml").write_text(f'[tool.looptap]\nstore = "{address}"\n')
    with pytest.raises(ValueError, match=r"^pyproject.toml \[tool.looptap\]: store cannot be used: ") as shared:
        store_to_read()
    for caught in (given, variable, shared):
        assert mend in str(caught.value)
        assert "hunter2" not in str(caught.value)
    (project / "pyproject.toml").unlink()
    assert store_to_read() == resolve_store()


def test_what_guards_a_secret_is_not_shared(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token, or the leave to send it in the clear, is taken from the user's own places only, and never shown."""
    (project / "pyproject.toml").write_text('[tool.looptap]\ntoken = "hunter2"\ninsecure = true\n')
    loaded, problems = load()
    assert (loaded.token, loaded.insecure) == ("", False)
    assert [problem.partition(":")[2].partition(" was")[0] for problem in problems] == [" token", " insecure"]
    assert "hunter2" not in "".join(problems)
    monkeypatch.setenv("LOOPTAP_TOKEN", " hunter2\n")
    assert load({"insecure": True})[0].token == "hunter2"
    monkeypatch.setenv("LOOPTAP_TOKEN", "hunter2\r\nX-Other: header")
    loaded, problems = load()
    assert loaded.token == ""
    assert "hunter2" not in "".join(problems)


def test_every_setting_is_documented() -> None:
    """Each setting says what it does, and the README or the docs list it."""
    documented = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()
    for name, item in TABLE.items():
        assert item.metadata["help"]
        assert f"`{name}`" in documented, name
