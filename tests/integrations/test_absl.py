"""absl: the program's flags, with the given ones told from the defaults."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from absl import flags

from integrations.recording import Recording, recorded
from looptap_integrations.absl import AbslIntegration


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(AbslIntegration) as recording:
        yield recording


def defined() -> flags.FlagValues:
    values: flags.FlagValues = flags.FlagValues()  # type: ignore[no-untyped-call]
    flags.DEFINE_float("lr", 0.1, "", flag_values=values)
    flags.DEFINE_integer("epochs", 3, "", flag_values=values)
    flags.DEFINE_bool("fast", False, "", flag_values=values)
    flags.DEFINE_list("layers", ["2", "4"], "", flag_values=values)
    flags.DEFINE_enum("mode", "train", ["train", "test"], "", flag_values=values)
    return values


def test_given_flags_are_told_from_defaults(record: Recording) -> None:
    """Typed, and given ones are given also where they equal the default."""
    values = defined()
    assert values(["program", "--lr=0.1", "--fast", "--layers=8", "rest"]) == ["program", "rest"]
    assert record.params_by_key() == {"lr": 0.1, "epochs": 3, "fast": True, "layers": ["8"], "mode": "train"}
    assert record.sources() == {
        "lr": "absl",
        "fast": "absl",
        "layers": "absl",
        "epochs": "default",
        "mode": "default",
    }


def test_wrong_flags_end_the_program_as_before(record: Recording) -> None:
    """absl's own error, and nothing is recorded."""
    with pytest.raises(flags.UnrecognizedFlagError):
        defined()(["program", "--learning_rate=1"])
    assert record.written == []


def test_flags_of_absl_itself_are_left_out(record: Recording) -> None:
    """The global flags hold those of absl's logging; they are no settings of a program."""
    flags.DEFINE_integer("test_absl_width", 8, "")
    try:
        import absl.logging  # noqa: F401 - defines flags

        flags.FLAGS(["program"])
        assert record.params_by_key() == {"test_absl_width": 8}
    finally:
        flags.FLAGS.unparse_flags()
        delattr(flags.FLAGS, "test_absl_width")


def test_flags_of_libraries(record: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of an installed library are settings of the program only where they were given to it."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "library_with_flags.py").write_text(
        "from absl import flags\nfor name in ('tuned', 'untouched'):\n    flags.DEFINE_integer(f'library_{name}', 8, '')\n"
    )
    monkeypatch.syspath_prepend(folder)
    importlib.import_module("library_with_flags")
    try:
        flags.FLAGS(["program", "--library_tuned=9"])
        assert record.written == [("library_tuned", 9, "absl")]
    finally:
        flags.FLAGS.unparse_flags()
        for name in ("library_tuned", "library_untouched"):
            delattr(flags.FLAGS, name)
