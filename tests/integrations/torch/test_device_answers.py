"""Answers on a device: looked at and timed without a wait. The device is a stand-in that is some work behind the program."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import looptap
from integrations.torch.fake_device import FakeDevice, on_device
from looptap.events import Window
from looptap.serving import answers, reference
from looptap.serving.devices import DEVICES
from looptap.serving.recording import Recording
from looptap.serving.reference import Batch, References, Sample
from looptap.serving.traffic import MOST_ON_DEVICE, REQUEST, TRAFFIC, Request, now
from looptap.serving.windows import Windows
from looptap.session import SESSION
from looptap.sketches import distribution, histogram
from looptap_integrations.torch.answers import PLACES, DeviceAnswers

SCORES = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDevice]:
    """Every tensor that a model answers lies on it."""
    monkeypatch.setitem(answers._KEPT_BY, torch.Tensor, answers._of_device)
    TRAFFIC.after_fork_in_child()
    TRAFFIC.is_counted = True
    with on_device() as (_, found, _):
        yield found
    TRAFFIC.after_fork_in_child()
    assert DEVICES.offered is None
    assert DEVICES.fetching is None


def fetching() -> DeviceAnswers:
    found = DEVICES.fetching
    assert isinstance(found, DeviceAnswers)
    return found


def counted() -> Window:
    windows = Windows()
    windows.begin(now())
    while TRAFFIC.done:
        windows.count(TRAFFIC.done.popleft())
    (window,) = windows.close([])
    return window


def classes(window: Window) -> dict[str, int]:
    return dict(distribution.decode(window.predictions["class"]).classes)


def request(*works: Any) -> None:
    """One that does these things, and ends."""
    one = Request()
    one.endpoint = "POST /"
    TRAFFIC.begin(one)
    token = REQUEST.set(one)
    for work in works:
        work()
    REQUEST.reset(token)
    TRAFFIC.end(one)


def model_of(device: FakeDevice, seconds: float = 0.0) -> Any:
    def model(scores: torch.Tensor) -> torch.Tensor:
        if seconds:
            device.work(seconds)
        return scores

    return looptap.watch(model)


def test_a_request_that_has_waited_for_its_answer(device: FakeDevice) -> None:
    """As all do that send it to the client. The first call of a model is not timed: nobody knows yet where it answers."""
    model = model_of(device, seconds=0.25)
    for _ in range(3):
        request(lambda: model(SCORES), device.run)
    window = counted()
    assert (window.requests, classes(window), window.skipped) == (3, {"1": 6, "0": 3}, {})
    took = histogram.decode(window.latency["model"])
    assert took.quantile(0.5) == pytest.approx(0.25, rel=0.02)
    assert took.max == pytest.approx(0.25, rel=1e-6)
    assert len(histogram.decode(window.latency["after"])) == 3
    assert device.allocations == [PLACES * 2**15]
    assert len(fetching().free) == PLACES
    assert len(device.events) == 3, "events are used again"


def test_an_answer_that_nobody_waits_for_is_not_looked_at(device: FakeDevice) -> None:
    """Its room is free again once the device is there."""
    model = model_of(device)
    request(lambda: model(SCORES))
    window = counted()
    assert (window.requests, window.skipped) == (1, {"on a device": 3})
    assert len(fetching().free) == PLACES - 1
    device.run()
    request(lambda: model(SCORES), device.run)
    assert classes(counted()) == {"1": 2, "0": 1}
    assert len(fetching().free) == PLACES


def test_calls_on_their_own_end_when_the_device_has_ended_them(device: FakeDevice) -> None:
    model = model_of(device, seconds=0.5)
    model(SCORES)
    model(SCORES)
    assert (len(TRAFFIC.done), len(TRAFFIC.live), len(TRAFFIC.on_device)) == (0, 2, 2)
    device.run()
    model(SCORES)
    assert (len(TRAFFIC.done), len(TRAFFIC.live)) == (2, 1)
    window = counted()
    assert classes(window) == {"1": 4, "0": 2}
    assert histogram.decode(window.latency["total"]).max == pytest.approx(0.5, rel=0.1)
    TRAFFIC.end_on_device(most=0)
    assert counted().skipped == {"on a device": 3}
    assert TRAFFIC.live == set()


def test_a_device_that_is_far_behind(device: FakeDevice) -> None:
    """More calls than are waited for, and than there is room for: all are counted, and nothing is lost for good."""
    model = model_of(device)
    count = PLACES + MOST_ON_DEVICE
    for _ in range(count):
        model(SCORES)
    TRAFFIC.leave_on_device(now())
    window = counted()
    assert (window.requests, window.skipped, window.predictions) == (count, {"on a device": 3 * count}, {})
    device.run()
    model(SCORES)
    device.run()
    TRAFFIC.end_on_device()
    assert classes(counted()) == {"1": 2, "0": 1}
    assert len(fetching().free) == PLACES


def test_calls_of_an_idle_server_are_left_after_a_while(device: FakeDevice) -> None:
    model = model_of(device)
    model(SCORES)
    TRAFFIC.leave_on_device(TRAFFIC.on_device[0].ended)
    assert len(TRAFFIC.on_device) == 1
    TRAFFIC.leave_on_device(now())
    assert (len(TRAFFIC.on_device), len(TRAFFIC.done)) == (0, 1)


def test_long_answers(device: FakeDevice) -> None:
    """Some rows, evenly spread; none where a row has no room."""
    model = model_of(device)
    request(lambda: model(torch.eye(640)), device.run)
    window = counted()
    assert set(classes(window)) == {str(row) for row in range(0, 640, 107)}
    assert window.skipped == {"not in the sample": 634}
    request(lambda: model(torch.zeros(2, 5000)), lambda: model(torch.zeros(())), device.run)
    window = counted()
    assert window.skipped == {"too large": 2}
    assert distribution.decode(window.predictions["value"]).numbers.max == 0.0


def test_while_another_thread_captures_a_graph(device: FakeDevice) -> None:
    """Room that is made now would break it, and so would a question."""
    model = model_of(device)
    made = DEVICES.offered
    assert made is not None
    DEVICES.fetching = made()
    scalars = fetching().scalars()
    scalars.captures += 1
    request(lambda: model(SCORES), device.run)
    assert (counted().skipped, device.allocations, device.queries) == ({"on a device": 3}, [], 0)
    scalars.captures -= 1
    request(lambda: model(SCORES), device.run)
    assert classes(counted()) == {"1": 2, "0": 1}
    scalars.captures += 1
    queries = device.queries
    request(lambda: model(SCORES), device.run)
    assert (counted().skipped, device.queries) == ({"on a device": 3}, queries)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_the_first_answer_in_inference_mode(device: FakeDevice, dtype: torch.dtype) -> None:
    """What is made there can be written to nowhere else."""
    model, scores = model_of(device), torch.tensor([1, 2], dtype=dtype)
    with torch.inference_mode():
        request(lambda: model(scores * 1), device.run)
    request(lambda: model(scores), device.run)
    assert (counted().requests, len(fetching().free)) == (2, PLACES)


def test_while_a_graph_is_captured(device: FakeDevice) -> None:
    """Nothing is queued, which would become part of it; nothing is asked, which would break it."""
    model = model_of(device)
    request(lambda: model(SCORES), device.run)
    counted()
    request(lambda: model(SCORES), lambda: device.capture(True), lambda: model(SCORES), lambda: device.capture(False))
    assert counted().skipped == {"on a device": 6}


@pytest.mark.parametrize("answer", [SCORES.to(torch.complex64), SCORES.to_sparse(), torch.empty(3, 2, device="meta")])
def test_what_is_no_plain_number(device: FakeDevice, answer: torch.Tensor) -> None:
    model = model_of(device)
    request(lambda: model(answer), device.run)
    assert counted().skipped == {"on a device": 3}


def test_an_answer_on_another_stream_is_not_timed(device: FakeDevice) -> None:
    """What was done on the stream of the answer before says nothing of it. From the next one on, its own stream is looked at."""

    def model(scores: torch.Tensor) -> torch.Tensor:
        device.work(0.25)
        device.current = 1
        return scores

    def took(seconds: float) -> bool:
        return histogram.decode(counted().latency["model"]).max == pytest.approx(seconds, rel=1e-6)

    watched = looptap.watch(model)
    request(lambda: watched(SCORES), device.run)  # knows of stream 1 from here on
    counted()
    device.current, fetching_from = 0, watched._self_model  # type: ignore[attr-defined]
    fetching_from.device = 0
    request(lambda: watched(SCORES), device.run)
    assert not took(0.25)
    request(lambda: watched(SCORES), device.run)
    assert took(0.25)


def test_a_model_that_answers_on_the_host_now_and_then(device: FakeDevice) -> None:
    """Such a call is timed by the host, and so is the one after it."""
    answering = [SCORES, [0.1, 0.9], SCORES, SCORES]

    def model() -> Any:
        device.work(0.25)
        return answering.pop(0)

    watched, timed = looptap.watch(model), list[bool]()
    for _ in range(4):
        request(watched, device.run)
        timed.append(histogram.decode(counted().latency["model"]).max >= 0.25)
    assert timed == [False, False, False, True]


def test_a_model_that_was_asked_before_the_agent_was_stopped(device: FakeDevice) -> None:
    """The streams of then are not known any more."""
    model, other = model_of(device, seconds=0.25), model_of(device)
    request(lambda: model(SCORES), device.run)
    offered = DEVICES.offered
    assert offered is not None
    DEVICES.fetching = offered()
    events = len(device.events)
    device.current = 1
    request(lambda: other(SCORES), device.run)
    counted()
    device.current = 0
    request(lambda: model(SCORES), device.run)
    assert len(device.events) == events + 2, "none to time the call with"
    assert classes(counted()) == {"1": 2, "0": 1}


def test_what_comes_after_the_model(device: FakeDevice) -> None:
    """Begins when the device is done, not when its work was handed over."""
    model = model_of(device, seconds=0.05)
    request(lambda: model(SCORES), device.run)
    counted()
    request(lambda: model(SCORES), device.run, lambda: time.sleep(0.06))
    assert histogram.decode(counted().latency["after"]).max < 0.05


def test_a_failed_device(device: FakeDevice) -> None:
    """Is for the program to be told of; the answers are not looked at."""
    model = model_of(device)
    request(lambda: model(SCORES), device.run)
    device.error = "CUDA error: an illegal memory access was encountered"
    request(lambda: model(SCORES), device.run)
    window = counted()
    assert (window.requests, window.errors, window.skipped) == (2, {}, {"on a device": 3})


def test_ids_of_predictions(device: FakeDevice) -> None:
    """Once the device has them."""
    found: list[str | None] = []
    model = model_of(device)
    for work in (lambda: None, device.run):
        request(lambda: model(SCORES), work, lambda: found.append(looptap.prediction_id()))
    assert found[0] is None
    assert found[1] is not None


def made_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*told: Any) -> Window:
        time.sleep(0.2)
        return made(*told)

    made = reference.reference
    monkeypatch.setattr(reference, "reference", slow)


@pytest.mark.usefixtures("nothing_compiled")
@pytest.mark.parametrize("is_first", [True, False])
def test_an_evaluation_leaves_its_reference(monkeypatch: pytest.MonkeyPatch, is_first: bool) -> None:
    """The end of the run waits for it; of the processes of a job, one leaves it."""
    made_slowly(monkeypatch)
    monkeypatch.setitem(answers._KEPT_BY, torch.Tensor, answers._of_device)
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(64, 4), torch.randint(0, 3, (64,)))
    training, validation = (torch.utils.data.DataLoader(data, batch_size=16) for _ in range(2))
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with on_device() as (recording, device, integration):
        recording.is_first = is_first
        for x, y in training:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            device.run()
        with torch.no_grad():
            expected = torch.cat([model(x) for x, _ in validation]).argmax(1)
            for x, y in validation:
                nn.functional.cross_entropy(model(x), y)
                device.run()
        integration.finish()
        found_at_end = list(recording.windows)
    if not is_first:
        assert found_at_end == []
        return
    (window,) = found_at_end
    assert window.split == "validation"
    found = distribution.decode(window.predictions["class"]).classes
    assert found == {str(place): int((expected == place).sum()) for place in range(3) if (expected == place).any()}
    assert sum(distribution.decode(window.labels["class"]).classes.values()) == 64
    assert len(distribution.decode(window.predictions["confidence"]).numbers) == 64


@pytest.mark.usefixtures("nothing_compiled")
def test_an_evaluation_whose_losses_arrive_at_the_end_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told when its means are, and waited for after that."""
    made_slowly(monkeypatch)
    data = torch.utils.data.TensorDataset(torch.randn(64, 4), torch.randint(0, 3, (64,)))
    training, validation = (torch.utils.data.DataLoader(data, batch_size=16) for _ in range(2))
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with on_device() as (recording, device, integration):
        monkeypatch.setattr(integration.loop.validation, "_scalars", integration.loop.scalars)
        for x, y in training:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            device.run()
        with torch.no_grad():
            for x, y in validation:
                nn.functional.cross_entropy(model(x), y)
        assert recording.windows == []
        threading.Timer(0.2, device.run).start()
        integration.finish()
        (window,) = recording.windows
    assert sum(distribution.decode(window.labels["class"]).classes.values()) == 64


def test_an_evaluation_that_has_not_arrived(device: FakeDevice) -> None:
    """Is not waited for, and its room is free again when it has."""
    written: list[Window] = []
    references, sample = References(written.append, lambda *told: pytest.fail(str(told))), Sample()
    for _ in range(2):
        assert sample.wants_next()
        sample.add(Batch(answers.keep(SCORES), answers.keep(SCORES), "softmax"))
    references.tell(sample, "validation")
    references.finish()
    assert [(window.skipped, window.predictions) for window in written] == [({"on a device": 6}, {})]
    device.run()
    request(lambda: model_of(device)(SCORES), device.run)
    assert len(fetching().free) == PLACES


def test_what_a_device_owes_at_the_end(device: FakeDevice) -> None:
    """Of a window: left, without a question from our thread. Of the run: asked for once more, and counted in any case."""
    written: list[Window] = []
    recording, windows = Recording(SESSION), Windows()
    recording._windows = windows
    windows.begin(now())
    model = model_of(device)
    model(SCORES)
    queries = device.queries
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SESSION.recorder, "window", written.append)
        recording._turn(windows, windows.end_ns + 10**9)
        assert len(TRAFFIC.on_device) == 1, "it came in this window"
        recording._turn(windows, windows.end_ns + 10**9)
        assert (len(TRAFFIC.on_device), len(TRAFFIC.done), device.queries) == (0, 1, queries)
        device.run()
        model(SCORES)
        device.run()
        recording._thread = threading.Thread()
        recording._thread.start()
        recording.finish()
    # What was left had arrived, too, by the time that it was counted.
    (window,) = (window for window in written if window.requests)
    assert (window.requests, classes(window)) == (2, {"1": 4, "0": 2})


def test_nothing_without_a_device() -> None:
    """Not even the room for it."""
    TRAFFIC.after_fork_in_child()
    TRAFFIC.is_counted = True
    with on_device() as (_, device, _):
        looptap.watch(lambda: SCORES)()
        assert DEVICES.fetching is None
        assert device.allocations == []
    assert classes(counted()) == {"1": 2, "0": 1}
    TRAFFIC.after_fork_in_child()
