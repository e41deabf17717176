"""The patcher: the user's call is untouched, every observer is guarded, and everything is undone."""

from __future__ import annotations

import functools
import importlib
import inspect
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from looptap.guard import FAILURES_TO_CLOSE
from looptap.patching import Call, Observation, Patcher


def double(value: int, *, plus: int = 0) -> int:
    """Twice the value."""
    return 2 * value + plus


class Base:
    def run(self, value: int) -> int:
        return value + 1

    @staticmethod
    def still(value: int) -> int:
        return value

    @classmethod
    def kind(cls, value: int) -> tuple[type, int]:
        return cls, value


class Derived(Base):
    pass


ORIGINAL = double
THIS = __name__


@pytest.fixture
def patch() -> Iterator[Patcher]:
    patcher = Patcher("test")
    yield patcher
    patcher.undo()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    made = types.ModuleType("made_for_patching")
    made.double = ORIGINAL  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "made_for_patching", made)
    return made


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPTAP_STRICT", "0")


def test_observer_sees_arguments_and_result(patch: Patcher, module: Any) -> None:
    """Before the yield the arguments are there, after it the result."""
    seen: list[Any] = []

    def observer(call: Call) -> Observation:
        seen.append((call.args, call.kwargs))
        yield
        seen.append(call.result)

    patch.observe("made_for_patching", "double", observer)
    assert module.double(4, plus=1) == 9
    assert seen == [((4,), {"plus": 1}), 9]


def test_users_exception_is_the_same_object(patch: Patcher, module: Any) -> None:
    """What the original raises reaches the user unchanged, and the observer is told."""
    error = KeyboardInterrupt("mine")
    seen: list[BaseException | None] = []

    def failing() -> None:
        raise error

    def observer(call: Call) -> Observation:
        yield
        seen.append(call.error)

    module.failing = failing
    patch.observe("made_for_patching", "failing", observer)
    with pytest.raises(KeyboardInterrupt) as caught:
        module.failing()
    assert caught.value is error
    assert seen == [error]


def test_wrong_arguments_give_the_users_own_error(patch: Patcher, module: Any) -> None:
    """A call with wrong arguments fails as it would without us."""

    def observer(call: Call) -> Observation:
        yield

    patch.observe("made_for_patching", "double", observer)
    with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'"):
        module.double(1, wrong=2)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("where", ["before", "after", "not a generator"])
def test_failing_observer_is_counted_and_switched_off(module: Any, where: str) -> None:
    """An observer may fail in any place: the user's call still happens exactly once, and after three failures it is off."""
    calls = observed = 0

    def original() -> str:
        nonlocal calls
        calls += 1
        return "result"

    def observer(call: Call) -> Any:
        nonlocal observed
        observed += 1
        if where == "before":
            raise ValueError("ours")
        yield
        raise ValueError("ours")

    def plain(call: Call) -> Any:
        nonlocal observed
        observed += 1
        return 3

    module.original = original
    patcher = Patcher("test")
    patcher.observe("made_for_patching", "original", plain if where == "not a generator" else observer)
    for _ in range(10):
        assert module.original() == "result"
    assert calls == 10
    assert observed == FAILURES_TO_CLOSE
    assert patcher.guards[0].closed
    assert patcher.guards[0].last_error


@pytest.mark.usefixtures("lenient")
def test_ctrl_c_in_our_code_passes(patch: Patcher, module: Any) -> None:
    """KeyboardInterrupt inside an observer is the user's: it is not swallowed."""

    def observer(call: Call) -> Observation:
        if not call.kwargs:
            raise KeyboardInterrupt
        yield

    patch.observe("made_for_patching", "double", observer)
    with pytest.raises(KeyboardInterrupt):
        module.double(1)


def test_strict_mode_swallows_nothing(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """With LOOPTAP_STRICT=1 our own errors come out."""
    monkeypatch.setenv("LOOPTAP_STRICT", "1")
    patcher = Patcher("test")

    def observer(call: Call) -> Observation:
        if not call.kwargs:
            raise ValueError("ours")
        yield

    patcher.observe("made_for_patching", "double", observer)
    with pytest.raises(ValueError, match="ours"):
        module.double(1)


def test_undo_restores_the_identical_objects() -> None:
    """Functions, methods, inherited methods and static methods come back as the very objects that they were."""
    before = dict(vars(Base))
    patcher = Patcher("test")

    def observer(call: Call) -> Observation:
        yield

    patcher.observe(Base, "run", observer)
    patcher.observe(Derived, "run", observer)
    patcher.observe(Base, "still", observer)
    patcher.observe(Base, "kind", observer)
    patcher.observe(Derived, "kind", observer)
    assert "run" in vars(Derived)
    assert Derived().run(1) == 2
    patcher.undo()
    for name in ("run", "still", "kind"):
        assert vars(Base)[name] is before[name]
        assert name not in vars(Derived)


def test_methods_of_classes() -> None:
    """A class method gets the class that it was called on, a static method what it was called with, of a class and of an object."""
    seen: list[Any] = []

    def observer(call: Call) -> Observation:
        seen.append(call.args)
        yield

    patcher = Patcher("test")
    patcher.observe(Base, "kind", observer)
    patcher.observe(Base, "still", observer)
    try:
        assert (Base.kind(1), Derived.kind(2), Derived().kind(3)) == ((Base, 1), (Derived, 2), (Derived, 3))
        assert (Base.still(4), Derived().still(5)) == (4, 5)
    finally:
        patcher.undo()
    assert seen == [(Base, 1), (Derived, 2), (Derived, 3), (4,), (5,)]


def test_someone_elses_wrapper_stays(module: Any) -> None:
    """Where somebody wrapped our wrapper, undo leaves theirs and ours only passes the call through."""
    seen: list[int] = []

    def observer(call: Call) -> Observation:
        seen.append(call.args[0])
        yield

    patcher = Patcher("test")
    patcher.observe("made_for_patching", "double", observer)
    ours = module.double

    def theirs(value: int) -> int:
        return int(ours(value)) + 100

    module.double = theirs
    patcher.undo()
    assert module.double is theirs
    assert module.double(2) == 104
    assert seen == []


def test_wrapper_keeps_name_signature_and_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patched function is still known by its name, documentation and signature, and pickles by reference."""
    patcher = Patcher("test")

    def observer(call: Call) -> Observation:
        yield

    this = __import__("sys").modules[THIS]
    patcher.observe(this, "double", observer)
    try:
        patched = this.double
        assert patched is not ORIGINAL
        assert patched.__name__ == "double"
        assert patched.__doc__ == "Twice the value."
        assert inspect.signature(patched) == inspect.signature(ORIGINAL)
        assert pickle.loads(pickle.dumps(patched)) is patched
    finally:
        patcher.undo()
    assert this.double is ORIGINAL


def test_hook_is_removed_and_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework's hook gets our callback, its failures are swallowed, and undo calls remove()."""
    monkeypatch.setenv("LOOPTAP_STRICT", "0")
    hooks: list[Any] = []

    class Handle:
        def remove(self) -> None:
            hooks.clear()

    def register(callback: Any) -> Handle:
        hooks.append(callback)
        return Handle()

    def callback(value: int) -> int:
        if value < 0:
            raise ValueError("ours")
        return value * 10

    patcher = Patcher("test")
    patcher.hook(register, callback)
    assert hooks[0](2) == 20
    assert [hooks[0](-1) for _ in range(4)] == [None] * 4
    assert hooks[0](2) is None, "switched off after three failures"
    patcher.undo()
    assert hooks == []


def test_missing_name_is_noted(patch: Patcher) -> None:
    """A function that this version does not have is no error."""

    def observer(call: Call) -> Observation:
        yield

    patch.observe("json", "no_such_function", observer)
    assert patch.missing == ["json.no_such_function does not exist in this version"]


def test_tap_gets_what_before_returned(patch: Patcher, module: Any) -> None:
    """``before`` sees the arguments, ``after`` gets what it returned; None leaves a call alone; a call that raises has no after."""
    seen: list[Any] = []

    def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return None if args[0] < 0 else (args, kwargs)

    patch.tap("made_for_patching", "double", before, seen.append)
    assert [module.double(4, plus=1), module.double(-1)] == [9, -2]
    with pytest.raises(TypeError):
        module.double(1, wrong=2)
    assert seen == [((4,), {"plus": 1})]


def test_tap_tells_calls_that_raise(patch: Patcher, module: Any) -> None:
    """The token goes to ``after`` when the call succeeds, to ``failed`` when it raises; the program gets its own exception."""
    token, seen, failed = object(), list[Any](), list[Any]()
    patch.tap("made_for_patching", "double", lambda args, kwargs: token, seen.append, failed.append)
    assert module.double(4) == 8
    assert (seen, failed) == ([token], [])
    with pytest.raises(TypeError, match="wrong"):
        module.double(1, wrong=2)
    assert (seen, failed) == ([token], [token])


def test_tap_without_before_gets_the_arguments(patch: Patcher, module: Any) -> None:
    """Without ``before``, ``after`` gets the arguments of every call that succeeded."""
    seen: list[Any] = []
    patch.tap("made_for_patching", "double", None, seen.append)
    module.double(1)
    assert seen == [(1,)]


def test_tap_without_after_sees_every_call(patch: Patcher, module: Any) -> None:
    """Without ``after``, ``before`` is all: of calls that raise, too, and whatever it returns."""
    seen: list[Any] = []
    patch.tap("made_for_patching", "double", lambda args, kwargs: seen.append(args), None)
    module.double(1)
    with pytest.raises(TypeError):
        module.double(2, wrong=2)
    assert seen == [(1,), (2,)]


@pytest.mark.usefixtures("lenient")
def test_failing_tap_without_after_is_left_out(patch: Patcher, module: Any) -> None:
    """The program's calls go on, and after three failures nothing of ours is called any more."""
    seen: list[Any] = []

    def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(args)
        raise ValueError("ours")

    patch.tap("made_for_patching", "double", before, None)
    assert [module.double(value) for value in range(4)] == [0, 2, 4, 6]
    assert len(seen) == 3


def test_called_when_undone() -> None:
    """Newest first, like everything that is undone, and once."""
    seen: list[int] = []
    patcher = Patcher("test")
    for number in range(2):
        patcher.when_undone(functools.partial(seen.append, number))
    assert seen == []
    patcher.undo()
    patcher.undo()
    assert seen == [1, 0]


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("where", ["before", "after"])
def test_failing_tap_is_switched_off(module: Any, where: str) -> None:
    """A tap that fails costs nothing but itself: three times, then it is off; undo gives the function back."""
    tries = 0

    def failing(*_: Any) -> Any:
        nonlocal tries
        tries += 1
        raise ValueError("ours")

    patcher = Patcher("test")
    if where == "before":
        patcher.tap("made_for_patching", "double", failing, lambda token: None)
    else:
        patcher.tap("made_for_patching", "double", None, failing)
    assert [module.double(value) for value in range(10)] == [2 * value for value in range(10)]
    assert tries == FAILURES_TO_CLOSE
    patcher.undo()
    assert module.double is ORIGINAL


def test_tap_lets_ctrl_c_pass(patch: Patcher, module: Any) -> None:
    """KeyboardInterrupt inside a tap is the user's."""

    def interrupted(token: Any) -> None:
        raise KeyboardInterrupt

    patch.tap("made_for_patching", "double", None, interrupted)
    with pytest.raises(KeyboardInterrupt):
        module.double(1)


def test_tap_that_is_left_alone(patch: Patcher, module: Any) -> None:
    """Where ``unless`` says so nothing but the original runs; elsewhere ``after`` gets the result too, and an error is told."""
    leaves, seen, failed = [True], list[Any](), list[Any]()
    patch.tap(
        "made_for_patching",
        "double",
        lambda args, kwargs: args,
        lambda token, result: seen.append((token, result)),
        failed.append,
        unless=lambda: leaves[0],
    )
    assert module.double(2) == 4
    assert seen == []
    leaves[0] = False
    assert module.double(3) == 6
    assert seen == [((3,), 6)]
    with pytest.raises(TypeError):
        module.double(None)
    assert failed == [(None,)]
    patch.undo()
    assert module.double(4) == 8
    assert len(seen) == 1


def test_when_imported(patch: Patcher, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second name for a function is observed as soon as its module is imported, and comes back; after the end none is."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("made_first", "made_later"):
        (tmp_path / f"{name}.py").write_text(f"from {THIS} import ORIGINAL as double\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
    seen: list[Any] = []

    def observer(call: Call) -> Observation:
        seen.append(call.args)
        yield

    for name in ("made_for_patching_already", "made_first", "made_later"):
        if name == "made_for_patching_already":
            made = types.ModuleType(name)
            vars(made)["double"] = ORIGINAL
            monkeypatch.setitem(sys.modules, name, made)
        patch.when_imported(name, lambda module: patch.observe(module, "double", observer))
    first: Any = importlib.import_module("made_first")
    assert (first.double(1), made.double(2)) == (2, 4)
    assert seen == [(1,), (2,)]
    patch.undo()
    later: Any = importlib.import_module("made_later")
    assert first.double is made.double is later.double is ORIGINAL
