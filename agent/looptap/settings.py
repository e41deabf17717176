"""Every setting, in one table.

A setting is looked up in this order, and the first place that has it wins: the argument of :func:`looptap.autolog`, the
environment variable ``LOOPTAP_<NAME>``, the table ``[tool.looptap]`` of the nearest ``pyproject.toml`` (from the working
directory upwards), the default. A value that cannot be read is reported in one line and the next place is asked: a typing
mistake in a setting never stops a training run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("expected true or false")


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(",")
    return tuple(name for item in value if (name := str(item).strip()))


def _seconds(value: Any) -> float:
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError("expected seconds, 0 or more")
    return number


def _mebibytes(value: Any) -> int:
    number = int(value)
    if number < 1:
        raise ValueError("expected a whole number of MiB, 1 or more")
    return number


def _folder(value: Any) -> str:
    return str(Path(str(value)).expanduser())


def _setting(default: Any, read: Callable[[Any], Any], help: str) -> Any:
    return field(default=default, metadata={"read": read, "help": help})


@dataclass(frozen=True)
class Settings:
    """How looptap behaves in this process. Every field is an argument of ``autolog()``."""

    store: str = _setting("", str, "where records go: a folder, or 'off'; default: .looptap of the project")
    experiment: str = _setting("default", str, "the group of runs that this run belongs to")
    name: str = _setting("", str, "the name of the run; default: made up, like calm-otter-12")
    enabled: bool = _setting(True, _bool, "false makes autolog() do nothing at all")
    quiet: bool = _setting(False, _bool, "true prints no line at start and end")
    disable: tuple[str, ...] = _setting((), _names, "integrations to leave out, like torch,argparse")
    artifacts: bool = _setting(True, _bool, "false records no model files")
    constants: bool = _setting(True, _bool, "false records no constants of the main script")
    redact: tuple[str, ...] = _setting((), _names, "more words that mark a key as secret")
    journal: str = _setting("", _folder, "folder of the journals; default: the state folder of the user")
    journal_mib: int = _setting(512, _mebibytes, "most that one journal may take on disk, MiB")
    send_interval: float = _setting(1.0, _seconds, "seconds between two deliveries to the store")
    exit_timeout: float = _setting(5.0, _seconds, "most seconds that the end of the program waits for the store")


TABLE = {item.name: item for item in fields(Settings)}


def load(arguments: Mapping[str, Any] | None = None) -> tuple[Settings, list[str]]:
    """Settings for this process, and one line for each value that could not be read.

    ``arguments`` that are None count as not given. Raises TypeError for a name that is no setting.
    """
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    for name in given:
        if name not in TABLE:
            raise TypeError(f"autolog() has no setting {name!r}; it has: {', '.join(TABLE)}")
    project = _project_table()
    problems = [f"pyproject.toml: [tool.looptap] has no setting {name!r}" for name in project if name not in TABLE]
    values: dict[str, Any] = {}
    for name, item in TABLE.items():
        variable = f"LOOPTAP_{name.upper()}"
        for place, source, key in (
            ("autolog()", given, name),
            (variable, os.environ, variable),
            ("pyproject.toml [tool.looptap]", project, name),
        ):
            if key not in source:
                continue
            try:
                values[name] = item.metadata["read"](source[key])
                break
            except (ValueError, TypeError) as error:
                problems.append(f"{place}: {name} = {source[key]!r} was left out: {error}")
    return Settings(**values), problems


def resolve_store(argument: str | os.PathLike[str] | None = None) -> str:
    """The store to use: ``off``, an ``http(s)://`` URL, or the absolute path of a folder (which may not exist yet).

    With nothing set it is ``.looptap``: the nearest one from the working directory upwards, else at the root of the git
    repository, else in the working directory.
    """
    store = str(argument) if argument is not None else load()[0].store
    if store == "off" or store.startswith(("http://", "https://")):
        return store
    if store:
        return str(Path(store).expanduser().absolute())
    here = Path.cwd()
    folders = (here, *here.parents)
    home = Path.home()
    for folder in folders:
        # A store in the home folder itself would swallow every project below it.
        if (folder / ".looptap").is_dir() and (folder == here or folder != home):
            return str(folder / ".looptap")
    for folder in folders:
        if (folder / ".git").exists():
            return str(folder / ".looptap")
    return str(here / ".looptap")


def journal_root(settings: Settings | None = None) -> Path | None:
    """Folder that holds the journals; None when the user has no home to put it in.

    Local state storage, not the store's folder: that one may be a network disk, where an append can block.
    """
    chosen = (settings or load()[0]).journal
    if chosen:
        return Path(chosen).absolute()
    state = os.environ.get("XDG_STATE_HOME")
    if state and os.path.isabs(state):
        return Path(state) / "looptap" / "journal"
    try:
        return Path.home() / ".local" / "state" / "looptap" / "journal"
    except RuntimeError:  # HOME unset and no such user in the password database
        return None


def _project_table() -> dict[str, Any]:
    """``[tool.looptap]`` of the nearest pyproject.toml; empty when there is none or it cannot be read."""
    try:
        here = Path.cwd()
    except OSError:  # the working directory was deleted
        return {}
    for folder in (here, *here.parents):
        path = folder / "pyproject.toml"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        try:
            table = tomllib.loads(text).get("tool", {}).get("looptap", {})
        except (tomllib.TOMLDecodeError, AttributeError):
            return {}
        return table if isinstance(table, dict) else {}
    return {}
