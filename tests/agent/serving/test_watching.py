"""Models that are watched: they answer as before, and each outermost call is noted once."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import torch

import looptap
from looptap.events import Window
from looptap.serving.traffic import TRAFFIC
from looptap.sketches import distribution, histogram

Counted = Callable[[], list[Window]]


def scale(rows: Any) -> Any:
    """Twice as much."""
    return rows * 2


class Predictor:
    def predict(self, rows: Any) -> Any:
        return rows.sum(1)

    def other(self) -> str:
        return "not a question"


def test_a_function(counted: Counted) -> None:
    watched = looptap.watch(scale)
    rows = np.array([[1.0], [2.0]])
    assert (watched(rows) == scale(rows)).all()
    assert watched.__doc__ == "Twice as much."
    (window,) = counted()
    assert (window.model, window.version, window.endpoint, window.requests) == ("scale", None, "", 1)
    assert window.shapes == {"float64[*, 1]": 1}
    assert histogram.decode(window.batch or b"").max == 2.0
    assert distribution.decode(window.predictions["value"]).numbers.max == 4.0
    assert set(window.latency) == {"total", "model"}


def test_questions_by_name(counted: Counted) -> None:
    watched: Any = looptap.watch(Predictor(), name="sums", version="7")
    assert isinstance(watched, Predictor)
    assert watched.predict(np.ones((3, 2))).tolist() == [2.0] * 3
    assert watched.other() == "not a question"
    with pytest.raises(AttributeError):
        _ = watched.run  # type: ignore[attr-defined]
    (window,) = counted()
    assert (window.model, window.version, window.requests) == ("sums", "7", 1)


def test_a_module_answers_the_same(counted: Counted) -> None:
    """Bit for bit; what it calls inside does not count, nor does what trains."""
    torch.manual_seed(0)
    inner = looptap.watch(torch.nn.Linear(4, 4))
    model = torch.nn.Sequential(inner, torch.nn.ReLU())
    watched = looptap.watch(model, name="net")
    rows = torch.randn(5, 4)
    expected = model.eval()(rows)
    counted()
    assert isinstance(watched, torch.nn.Module)
    assert torch.equal(watched(rows), expected)
    watched.train()
    watched(rows).sum().backward()
    with torch.no_grad():
        watched(rows)
    (window,) = counted()
    assert (window.model, window.requests) == ("net", 2)


def test_questions_by_keyword(counted: Counted) -> None:
    """As a signature of TensorFlow and the models of Transformers are asked; what is no array does not matter."""

    def model(ids: Any = None, mask: Any = None, top: int = 1) -> Any:
        return ids[:, :1]

    watched = looptap.watch(model, features=["ids"])
    watched(ids=np.ones((4, 2)), mask=np.ones((4, 2), np.int64))
    watched(ids=torch.ones(4, 2), top=2)
    watched(ids=np.ones((4, 2)))
    (window,) = counted()
    assert window.shapes == {"ids float64[*, 2], mask int64[*, 2]": 1, "float32[*, 2]": 1, "float64[*, 2]": 1}
    assert histogram.decode(window.batch or b"").quantile(0.0) == histogram.decode(window.batch or b"").max == 4.0
    assert set(window.features) == {"ids.class"}


def test_tables(counted: Counted) -> None:
    """Have rows, and no single type; nor is it a failure."""
    table = pd.DataFrame({"age": [1.0, 2.0, 3.0], "name": ["a", "b", "c"]})
    watched: Any = looptap.watch(lambda rows: 1.0, name="table")
    for _ in range(5):
        watched(table)
    (window,) = counted()
    assert (window.requests, window.shapes, window.skipped) == (5, {}, {})
    assert histogram.decode(window.batch or b"").max == 3.0
    assert len(distribution.decode(window.predictions["value"]).numbers) == 5


def test_a_model_in_a_graph_that_is_traced(counted: Counted) -> None:
    """There are no numbers, and no sizes where a rank is unknown."""
    watched: Any = looptap.watch(lambda rows: rows * 2, name="traced")
    traced: Any = tf.function(lambda rows: watched(rows), input_signature=[tf.TensorSpec(None)])
    assert traced(tf.ones((2, 3))).numpy().tolist() == [[2.0] * 3] * 2
    assert jax.jit(watched)(jnp.ones((2, 3))).tolist() == [[2.0] * 3] * 2
    (window,) = counted()
    assert (window.predictions, window.shapes) == ({}, {})
    assert window.skipped == {"unknown kind": window.requests}


def test_what_is_called_for_training_does_not_count(counted: Counted) -> None:
    """As Keras models are."""

    def model(rows: Any, training: Any = None) -> Any:
        return rows

    watched = looptap.watch(model)
    for training in (True, False, None):
        watched([1.0], training=training)
    (window,) = counted()
    assert window.requests == 2


def test_errors_are_the_programs(counted: Counted) -> None:
    class Refused(Exception):
        pass

    refused = Refused("no")

    def fails(_: int) -> None:
        raise refused

    with pytest.raises(Refused) as raised:
        looptap.watch(fails)(1)
    assert raised.value is refused
    (window,) = counted()
    assert (window.requests, window.errors) == (1, {"Refused": 1})


@pytest.mark.parametrize("odd", [None, "text", {"a": 1}, [], np.array([]), float("nan"), object(), b"\xff", {1, 2}])
def test_odd_answers(counted: Counted, odd: Any) -> None:
    """Are the very objects that the model gave."""
    assert looptap.watch(lambda: odd)() is odd
    (window,) = counted()
    assert (window.requests, window.errors) == (1, {})


def test_coroutines(counted: Counted) -> None:
    async def slow(value: int) -> int:
        await asyncio.sleep(0)
        if value == 3:
            raise ValueError(value)
        await asyncio.sleep(10 if value == 4 else 0)
        return value

    watched = looptap.watch(slow)

    async def program() -> list[Any]:
        assert asyncio.iscoroutinefunction(watched)
        tasks = [asyncio.create_task(watched(value)) for value in range(5)]
        await asyncio.wait(tasks[:4])
        tasks[4].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(program())
    assert results[:3] == [0, 1, 2]
    (window,) = counted()
    assert (window.requests, window.errors) == (5, {"ValueError": 1, "cancelled": 1})
    assert window.in_flight_max == 5
    assert distribution.decode(window.predictions["class"]).classes == {"0": 1, "1": 1, "2": 1}


def test_what_a_coroutine_asks_inside(counted: Counted) -> None:
    """Is its own business, however long it waits in between; what is asked after it counts again."""
    inner = looptap.watch(scale, name="inner")

    async def slow(value: int) -> Any:
        await asyncio.sleep(0)
        return inner(value)

    outer = looptap.watch(slow)

    async def program() -> None:
        assert await outer(2) == 4
        assert inner(3) == 6

    asyncio.run(program())
    assert {window.model: window.requests for window in counted()} == {"slow": 1, "inner": 1}


def test_streams(counted: Counted) -> None:
    """A generator is one to the program, too: what is sent into it, thrown into it and returned by it passes."""
    seen: list[Any] = []

    def tokens(count: int) -> Iterator[int]:
        for token in range(count):
            try:
                seen.append((yield token))
            except KeyError as error:
                seen.append(error)
        return "over"  # type: ignore[return-value]

    watched: Any = looptap.watch(tokens)
    assert list(watched(5)) == [0, 1, 2, 3, 4]
    stream = watched(3)
    assert next(stream) == 0
    assert stream.send("hello") == 1
    thrown = KeyError("x")
    assert stream.throw(thrown) == 2
    with pytest.raises(StopIteration) as over:
        next(stream)
    assert over.value.value == "over"
    assert seen[-3:] == ["hello", thrown, None]
    left = watched(9)
    next(left)
    left.close()
    (window,) = counted()
    assert (window.requests, window.errors) == (3, {"cancelled": 1})
    assert len(histogram.decode(window.latency["between"])) == 4 + 2
    assert len(histogram.decode(window.latency["first"])) == 2


def test_asynchronous_streams(counted: Counted) -> None:
    async def tokens() -> AsyncIterator[int]:
        for token in range(4):
            yield token

    async def program() -> list[int]:
        return [token async for token in looptap.watch(tokens)()]

    assert asyncio.run(program()) == [0, 1, 2, 3]
    (window,) = counted()
    assert (window.requests, window.errors, len(histogram.decode(window.latency["between"]))) == (1, {}, 3)


def test_what_is_sent_into_an_asynchronous_stream(counted: Counted) -> None:
    """And thrown into it, as into the model's own."""
    seen: list[Any] = []

    async def tokens() -> AsyncIterator[int]:
        for token in range(9):
            try:
                seen.append((yield token))
            except KeyError as error:
                seen.append(error)

    async def program() -> None:
        stream: Any = looptap.watch(tokens)()
        assert await stream.asend(None) == 0
        assert await stream.asend("hello") == 1
        thrown = KeyError("x")
        assert await stream.athrow(thrown) == 2
        assert seen == ["hello", thrown]
        await stream.aclose()
        other: Any = looptap.watch(tokens)()
        await other.asend(None)
        with pytest.raises(ZeroDivisionError):
            await other.athrow(ZeroDivisionError)

    asyncio.run(program())
    (window,) = counted()
    assert (window.requests, window.errors) == (2, {"cancelled": 1, "ZeroDivisionError": 1})


def test_64_threads(counted: Counted) -> None:
    barrier = threading.Barrier(64)

    def together(value: int) -> int:
        barrier.wait()
        return value

    watched = looptap.watch(together)
    with ThreadPoolExecutor(64) as pool:
        for _ in range(20):
            assert list(pool.map(watched, range(64))) == list(range(64))
    (window,) = counted()
    assert window.requests == 64 * 20
    assert window.in_flight_max == 64
    assert not TRAFFIC.live


def test_copies_are_the_model_itself() -> None:
    model = torch.nn.Linear(2, 1)
    watched = looptap.watch(model)
    for other in (copy.copy(watched), copy.deepcopy(watched), pickle.loads(pickle.dumps(watched))):
        assert type(other) is torch.nn.Linear
        assert torch.equal(other.weight, model.weight)
    assert torch.nn.Sequential(watched)(torch.ones(1, 2)).shape == (1, 1)


def test_what_is_asked_by_name_alone(counted: Counted) -> None:
    """The class knows nothing of it: a namespace, or an object that hands on what it is asked."""
    watched: Any = looptap.watch(types.SimpleNamespace(predict=scale), name="handed on")
    assert watched.predict(2) == 4
    assert [(window.model, window.requests) for window in counted()] == [("handed on", 1)]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (None, "NoneType is not watched: it is no function, and has no encode, forward, generate, …"),
        ([1], "list is not watched: it is no function, and has no encode, forward, generate, …"),
        (Predictor, "Predictor is a class and not watched; watch what it makes: looptap.watch(Predictor(…))"),
    ],
)
def test_what_is_no_model(model: Any, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Is the program's own, and a line says why."""
    assert looptap.watch(model) is model
    assert capsys.readouterr().err == f"looptap: looptap.watch: {said}\n"


def test_suppressed(counted: Counted) -> None:
    with looptap.suppress():
        looptap.watch(scale)(1)
    assert counted() == []


def test_nothing_is_counted_where_looptap_is_off(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPTAP_ENABLED", "0")
    assert looptap.watch(scale) is scale
