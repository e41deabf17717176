"""Calls that are kept on request: which, how many, and what is left of each."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

import looptap
from looptap.events import Example, Window
from looptap.guard import Guard
from looptap.journal.frames import encode
from looptap.redaction import REDACTED
from looptap.serving import examples, watching
from looptap.serving.traffic import TRAFFIC, now
from looptap.serving.values import copied_pairs
from looptap.serving.windows import MOST_WITH_EXAMPLES, Windows
from looptap.session import SESSION
from looptap.sketches.sampling import EXAMPLE_BYTES, MOST_EXAMPLES

Counted = Callable[[], list[Window]]


def answers(text: str, top: int = 1) -> dict[str, Any]:
    return {"label": text.upper(), "top": top}


def itself(value: Any) -> Any:
    return value


def only(counted: Counted) -> Example:
    ((example,),) = (window.examples for window in counted())
    return example


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "_CHANCE", random.Random(11))


def test_a_call(counted: Counted) -> None:
    """By the names of its parameters, with what was answered."""
    watched = looptap.watch(answers, name="m", inputs=1.0)
    assert watched("hello", top=2) == {"label": "HELLO", "top": 2}
    example = only(counted)
    assert example.asked == {"text": "hello", "top": 2}
    assert example.answer == {"label": "HELLO", "top": 2}
    assert (example.error, example.ids) == (None, ())
    assert 0 <= example.draw < 1
    assert abs(example.time_ns / 1e9 - time.time()) < 60


def test_nothing_is_kept_unless_asked_for(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody even draws."""

    def drawn(*_: Any) -> None:
        raise AssertionError("a number was drawn")

    monkeypatch.setattr(watching, "drawn", drawn)
    for watched in (looptap.watch(answers), looptap.watch(answers, inputs=0), looptap.watch(answers, inputs=0.0)):
        watched("hello")
    (window,) = counted()
    assert (window.requests, window.examples) == (3, ())


def test_the_setting(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts where the call says nothing."""
    monkeypatch.setattr(SESSION, "armed", True)
    monkeypatch.setattr(SESSION, "settings", dataclasses.replace(SESSION.settings, serving_inputs=1.0))
    looptap.watch(answers, name="a")("hello")
    looptap.watch(answers, name="b", inputs=0)("hello")
    assert {window.model: len(window.examples) for window in counted()} == {"a": 1, "b": 0}


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan"), "some", True, object, [1], 10**400])
def test_a_wrong_share_is_one_line(counted: Counted, capsys: pytest.CaptureFixture[str], wrong: Any) -> None:
    """And keeps nothing; the model is watched."""
    looptap.watch(answers, inputs=wrong)("hello")
    (window,) = counted()
    assert (window.requests, window.examples) == (1, ())
    said = capsys.readouterr().err
    assert said.startswith("looptap: looptap.watch: inputs=")
    assert said.endswith("was left out, and no input is kept: expected a share of the calls, from 0 to 1\n")
    assert said.count("\n") == 1


def test_a_bound_and_equal_chances(counted: Counted, seeded: None) -> None:
    """Of 10,000 calls 20 are kept, early ones and late ones."""
    places: list[int] = []
    for _ in range(5):
        watched = looptap.watch(itself, name="m", inputs=1.0)
        for number in range(10_000):
            watched(number)
        (window,) = counted()
        assert window.requests == 10_000
        assert len(window.examples) == MOST_EXAMPLES
        assert [one.draw for one in window.examples] == sorted(one.draw for one in window.examples)
        assert all(one.asked == {"value": one.answer} for one in window.examples)
        places += [one.answer for one in window.examples]
    # 100 places of 0 … 9,999: their mean is within five standard deviations.
    assert abs(np.mean(places) - 5_000) < 5 * 2_887 / 10


def test_a_share(counted: Counted, seeded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10,000 calls about one in a hundred is copied at all."""
    kept: list[Any] = []

    def seen(pairs: Any) -> Any:
        kept.append(pairs)
        return copied_pairs(pairs)

    monkeypatch.setattr(examples, "copied_pairs", seen)
    watched = looptap.watch(answers, inputs=0.01)
    for _ in range(10_000):
        watched("x")
    assert abs(len(kept) - 100) < 50
    (window,) = counted()
    assert all(one.draw < 0.01 for one in window.examples)


def test_the_numbers_of_the_program_are_the_same(counted: Counted) -> None:
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.random()
    random.seed(3)
    np.random.seed(3)
    looptap.watch(answers, inputs=1.0)("x")
    assert (random.random(), np.random.random()) == expected


def test_workers_draw_numbers_of_their_own() -> None:
    """Or all of them keep the same calls."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(write, repr(examples._CHANCE.random()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 100).decode() != repr(examples._CHANCE.random())


class Predictor:
    def predict(self, rows: Any, token: str = "") -> Any:
        return rows

    @staticmethod
    def run(x: int) -> int:
        return x

    def __call__(self, question: str) -> str:
        return question


class Module(torch.nn.Module):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return ids * mask


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


@pytest.mark.parametrize(
    ("ask", "names"),
    [
        (lambda watch: watch(Predictor()).predict(1, "x"), ["rows", "token"]),
        (lambda watch: watch(Predictor().predict)(1), ["rows"]),
        (lambda watch: watch(Predictor()).run(1), ["x"]),
        (lambda watch: watch(Predictor())("x"), ["question"]),
        (lambda watch: watch(Module().eval())(torch.ones(1), torch.ones(1)), ["ids", "mask"]),
        (lambda watch: watch(decorated(answers))("x", 1), ["text", "top"]),
        (lambda watch: watch(lambda *rows, **more: 1)(1, 2, a=3), ["0", "1", "a"]),
        (lambda watch: watch(functools.partial(answers, top=3))("x"), ["0"]),
        (lambda watch: watch(len)([1]), ["0"]),
    ],
)
def test_names_of_arguments(counted: Counted, ask: Any, names: list[str]) -> None:
    """So that one which is named like a secret is known for one, however it is given."""
    ask(lambda model: looptap.watch(model, name="m", inputs=1.0))
    asked = only(counted).asked
    assert list(asked) == names
    assert asked.get("token", REDACTED) == REDACTED


def test_a_model_that_changes_what_it_is_given(counted: Counted) -> None:
    """What it was asked is told, and what it answered, each as it was then."""

    def model(rows: dict[str, Any]) -> Any:
        rows["x"][0] = 9
        rows["added"] = True
        return rows

    watched = looptap.watch(model, inputs=1.0)
    answer = watched({"x": np.zeros(3)})
    answer["later"] = 1
    example = only(counted)
    assert example.asked["rows"]["x"]["values"] == [0.0, 0.0, 0.0]
    assert set(example.asked["rows"]) == {"x"}
    assert example.answer["x"]["values"] == [9.0, 0.0, 0.0]
    assert set(example.answer) == {"x", "added"}


def test_a_call_that_fails(counted: Counted) -> None:
    """Is kept with the class of its exception, which is the program's own."""
    error = ValueError("hunter2")

    def model(rows: Any) -> Any:
        raise error

    with pytest.raises(ValueError) as caught:
        looptap.watch(model, inputs=1.0)(3)
    assert caught.value is error
    example = only(counted)
    assert (example.asked, example.answer, example.error) == ({"rows": 3}, None, "ValueError")


def test_an_exception_with_a_long_name(counted: Counted) -> None:
    long: Any = type("E" * 400, (Exception,), {})

    def model() -> None:
        raise long

    with pytest.raises(long):
        looptap.watch(model, inputs=1.0)()
    assert only(counted).error == "E" * 200


async def later(text: str) -> str:
    await asyncio.sleep(0)
    return text * 2


def pieces(text: str) -> Iterator[str]:
    yield from text


async def pieces_later(text: str) -> AsyncIterator[str]:
    for piece in text:
        yield piece


def test_coroutines_and_streams(counted: Counted) -> None:
    """Of a stream it is only known that it is one."""

    async def ask() -> None:
        assert await looptap.watch(later, name="a", inputs=1.0)("ab") == "abab"
        assert [piece async for piece in looptap.watch(pieces_later, name="c", inputs=1.0)("ab")] == ["a", "b"]

    asyncio.run(ask())
    assert list(looptap.watch(pieces, name="b", inputs=1.0)("ab")) == ["a", "b"]
    found = {window.model: window.examples[0] for window in counted()}
    assert {name: one.answer for name, one in found.items()} == {"a": "abab", "b": "generator", "c": "async_generator"}
    assert [one.asked for one in found.values()] == [{"text": "ab"}] * 3


def test_the_ids_of_its_predictions(counted: Counted) -> None:
    """Those that the program has asked for; not one that says a secret."""
    watched = looptap.watch(itself, name="m", inputs=1.0)
    watched(["a", "b", "AKIAIOSFODNN7EXAMPLE", "x" * 1_000])
    ids = [looptap.prediction_id(row) for row in (1, 0, 1, 2, 3)]
    assert None not in ids
    assert only(counted).ids == (ids[0], ids[1])


def test_what_is_only_inside_is_not_kept(counted: Counted) -> None:
    inner = looptap.watch(answers, name="inner", inputs=1.0)
    outer: Any = looptap.watch(lambda text: inner(text), name="outer", inputs=1.0)
    outer("x")
    (window,) = counted()
    assert (window.model, len(window.examples)) == ("outer", 1)


def test_long_questions_fit(counted: Counted) -> None:
    """Whatever they are, in 4 KiB with their answer."""
    watched: Any = looptap.watch(lambda *args, **kwargs: args, name="m", inputs=1.0)
    watched("é🦦" * 10_000, *range(1_000), **{f"name{number}" * 20: ["\0" * 500] * 60 for number in range(300)})
    watched(np.random.default_rng(0).normal(size=(8, 8, 8, 8)), {"d": {"e": {"f": {"g": {"h": ["\x01" * 300]}}}}})
    (window,) = counted()
    assert len(window.examples) == 2
    for example in window.examples:
        assert 100 < len(msgspec.json.encode(example)) <= EXAMPLE_BYTES
        assert "…" in str(example.asked)


def test_a_journal_has_them_as_they_are(counted: Counted) -> None:
    """Also beside it, as JSON; and what was written before there were any reads as a window without."""
    watched = looptap.watch(answers, inputs=1.0)
    watched("é", top=2**70)
    (window,) = counted()
    assert msgspec.json.decode(msgspec.json.encode(window), type=Window) == window
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(window), type=Window) == window
    assert encode(window)
    before = msgspec.to_builtins(window)
    del before["examples"]
    assert msgspec.convert(before, Window).examples == ()


def test_ten_thousand_endpoints() -> None:
    """So many windows at a time have examples."""
    windows = Windows()
    windows.begin(now())
    TRAFFIC.done.clear()
    watched = [looptap.watch(answers, name=f"m{number}", inputs=1.0) for number in range(MOST_WITH_EXAMPLES + 5)]
    for model in watched:
        model("x")
    while TRAFFIC.done:
        windows.count(TRAFFIC.done.popleft())
    kept = [len(window.examples) for window in windows.so_far()]
    assert kept == [1] * MOST_WITH_EXAMPLES + [0] * 5


def test_what_goes_wrong_costs_the_example_alone(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError("ours")

    guard = Guard("inputs")
    guard.strict = False
    monkeypatch.setattr(examples, "_guard", guard)
    monkeypatch.setattr(examples, "copied", failing)
    watched = looptap.watch(answers, inputs=1.0)
    for _ in range(5):
        assert watched("x")["label"] == "X"
    (window,) = counted()
    assert window.requests == 5
    assert window.predictions
    assert guard.closed
    assert "ours" in str(guard.last_error)
    # The first three have what was asked; then nothing is tried any more.
    assert [one.answer for one in window.examples] == [None] * 3
