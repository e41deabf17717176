"""Every setting, in one table.

A setting is looked up in this order, and the first place that has it wins: the argument of :func:`looptap.autolog`, the
environment variable ``LOOPTAP_<NAME>``, the table ``[tool.looptap]`` of the nearest ``pyproject.toml`` (from the working
directory upwards), the default. A value that cannot be read is reported in one line and the next place is asked: a typing
mistake in a setting never stops a training run. What guards a secret is not taken from ``pyproject.toml``, which is shared.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}
_DATABASES = {"postgresql", "postgres", "mysql", "mariadb"}


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


def _amount(of: str) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number = float(value)
        if not 0 <= number < float("inf"):
            raise ValueError(f"expected {of}, 0 or more")
        return number

    return read


_seconds = _amount("seconds")
_rate = _amount("MiB a second")


def share(value: Any) -> float:
    """Of calls, from 0 to 1. Raises ValueError in a few words."""
    try:
        number = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError("expected a share of the calls, from 0 to 1")
    return number


def _interval(value: Any) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError("expected seconds, more than 0")
    return number


def _mebibytes(value: Any) -> int:
    number = int(value)
    if number < 1:
        raise ValueError("expected a whole number of MiB, 1 or more")
    return number


def _folder(value: Any) -> str:
    return str(Path(str(value)).expanduser())


def is_collector(store: str) -> bool:
    """Whether a store is the address of a collector: ``http(s)://``."""
    return store.lower().startswith(("http://", "https://"))


def _store(value: Any) -> str:
    store = str(value)
    if not is_collector(store):
        if store.partition("://")[0].lower() in _DATABASES and "://" in store:
            raise ValueError(
                "a database is written and read through its collector: looptap server --store …, then LOOPTAP_STORE=http://…"
            )
        if "://" in store:
            raise ValueError("expected a folder, 'off' or the address of a collector, https://host:port")
        return store
    try:
        address = urlsplit(store)
        usable = bool(address.hostname) and address.port != 0
    except ValueError:  # its message tells what stands in the place of the port
        usable = False
    if not usable:
        raise ValueError("expected https://host:port")
    if address.username is not None or address.password is not None or address.query or address.fragment:
        raise ValueError("the address of a collector has no user, password or query; give the token as LOOPTAP_TOKEN")
    if address.path not in ("", "/"):
        raise ValueError("the address of a collector has no path; expected https://host:port")
    return f"{address.scheme}://{address.netloc}"


def _token(value: Any) -> str:
    token = str(value).strip()
    if not re.fullmatch(r"[A-Za-z0-9_.~+/=-]{0,4096}", token):
        raise ValueError("it has characters that no token has")
    return token


def _setting(default: Any, read: Callable[[Any], Any], help: str, *, private: bool = False) -> Any:
    """``private``: guards a secret. Not read from pyproject.toml."""
    return field(
        default=default, repr=read not in (_token, _webhook), metadata={"read": read, "help": help, "private": private}
    )


def _webhook(value: Any) -> str:
    address = str(value).strip()
    if not address.lower().startswith(("http://", "https://")):
        raise ValueError("expected the address of a webhook, https://…")
    return address


def _function(value: Any) -> Any:
    if not callable(value):
        raise ValueError("expected a function; only autolog() can be given one")
    return value


@dataclass(frozen=True)
class Settings:
    """How looptap behaves in this process. Every field is an argument of ``autolog()``."""

    store: str = _setting(
        "",
        _store,
        "where records go: a folder, a collector (https://host:port), or 'off'; default: .looptap of the project",
    )
    token: str = _setting(
        "", _token, "token for the collector; default: the local collector's own, from its file", private=True
    )
    insecure: bool = _setting(
        False,
        _bool,
        "true sends the token over plain http to another machine, where anybody on the way can read it",
        private=True,
    )
    experiment: str = _setting("default", str, "the group of runs that this run belongs to")
    name: str = _setting("", str, "the name of the run; default: made up, like calm-otter-12")
    enabled: bool = _setting(True, _bool, "false makes autolog() do nothing at all")
    serving: bool = _setting(False, _bool, "true records the requests that this process answers (docs/serving.md)")
    serving_inputs: float = _setting(
        0.0,
        share,
        "share of the calls of watched models, from 0 to 1, that may be kept as examples: inputs and answers",
    )
    quiet: bool = _setting(False, _bool, "true prints no line at start and end")
    disable: tuple[str, ...] = _setting((), _names, "integrations to leave out, like torch,argparse")
    artifacts: bool = _setting(True, _bool, "false records no model files")
    constants: bool = _setting(True, _bool, "false records no constants of the main script")
    dataset_content: bool = _setting(
        False, _bool, "true identifies data sets of files by all of their content, read in the background"
    )
    resources: bool = _setting(True, _bool, "false records no use of processors, memory, disks, network and GPUs")
    sample_seconds: float = _setting(
        1.0, _interval, "seconds between two samples of the resources, at the beginning of a run"
    )
    alerts: bool = _setting(True, _bool, "false watches for nothing: no NaN, no stall, no memory that fills")
    alert_webhook: str = _setting("", _webhook, "address that gets every alert as JSON, by POST", private=True)
    alert_command: str = _setting("", str, "shell command that is run for every alert", private=True)
    on_alert: Any = _setting(  # noqa: RUF009 - as all the others
        None, _function, "function that is called with every alert, in a thread of its own", private=True
    )
    alert_profile: float = _setting(
        0.0, _seconds, "seconds of a profile that is taken when an alert is raised; 0: none"
    )
    redact: tuple[str, ...] = _setting((), _names, "more words that mark a key as secret")
    journal: str = _setting("", _folder, "folder of the journals; default: the state folder of the user")
    journal_mib: int = _setting(512, _mebibytes, "most that one journal may take on disk, MiB")
    send_interval: float = _setting(1.0, _seconds, "seconds between two deliveries to the store")
    upload_mib_per_second: float = _setting(
        0.0, _rate, "most MiB of files a second that go to a collector; 0: as fast as it goes"
    )
    exit_timeout: float = _setting(5.0, _seconds, "most seconds that the end of the program waits for the store")
    price_per_hour: float | None = _setting(
        None, _amount("an amount of money"), "what an hour of all that the run has costs; for looptap profile"
    )
    grid_kg_per_kwh: float | None = _setting(
        None, _amount("kg of CO₂e"), "kg of CO₂e for each kWh of your power; for looptap profile"
    )


_PROJECT = "pyproject.toml [tool.looptap]"
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
            (_PROJECT, project, name),
        ):
            if key not in source:
                continue
            if source is project and item.metadata["private"]:
                problems.append(f"{place}: {name} was left out: that file is shared; set {variable} instead")
                continue
            try:
                values[name] = item.metadata["read"](source[key])
                break
            except (ValueError, TypeError) as error:
                # An address may have a password in it.
                told = "" if name == "token" or "://" in str(source[key]) else f" = {source[key]!r}"
                problems.append(f"{place}: {name}{told} was left out: {error}")
    return Settings(**values), problems


def resolve_store(argument: str | os.PathLike[str] | None = None, start: str | None = None) -> str:
    """The store to use: ``off``, an ``http(s)://`` URL, or the absolute path of a folder (which may not exist yet).

    With nothing set it is ``.looptap``: the nearest one from the working directory upwards, else at the root of the git
    repository, else in the working directory. ``start`` stands for the working directory, where the program has left it.
    """
    store = str(argument) if argument is not None else load()[0].store
    if store == "off" or is_collector(store):
        return store
    here = Path(start) if start else Path.cwd()
    if store:
        return str(here / Path(store).expanduser())
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


def store_to_read(argument: str | os.PathLike[str] | None = None, name: str = "store") -> str:
    """As :func:`resolve_store`, for whoever reads: another store than the one that was meant would be a wrong answer.

    ``name`` is what the user calls the argument. Raises ValueError in one line, without the value, for a store that cannot be used.
    """
    for place, value in (
        (name, argument),
        ("LOOPTAP_STORE", os.environ.get("LOOPTAP_STORE")),
        (f"{_PROJECT}: store", _project_table().get("store")),
    ):
        if value is not None:
            try:
                return resolve_store(_store(value))
            except ValueError as error:
                raise ValueError(f"{place} cannot be used: {error}") from None
    return resolve_store("")


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
