"""On a real GPU: the same as on the stand-in, and that nothing waits for the device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

import looptap
from integrations.recording import recorded
from looptap.serving.traffic import REQUEST, TRAFFIC, Request, now
from looptap.serving.windows import Windows
from looptap.sketches import distribution, histogram
from looptap_integrations.torch import TorchIntegration
from looptap_integrations.torch.memory import TorchAllocator

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "cudaHostAlloc",
    "cudaMalloc",
)


class Training:
    def __init__(self, device: str = "cuda") -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, capturable=device == "cuda")
        self.inputs, self.target = torch.randn(32, 64, device=device), torch.randn(32, 10, device=device)

    def step(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self.model(self.inputs), self.target)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def weights(self) -> torch.Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.model.parameters()]).cpu()


def test_losses_to_the_bit() -> None:
    """Every loss at its own step, whatever the device was behind."""
    with recorded(TorchIntegration) as recording:
        training = Training()
        losses = [training.step() for _ in range(300)]
        torch.cuda.synchronize()
    assert recording.series("loss") == list(enumerate(map(float, losses)))
    assert len(recording.values("grad_norm")) == 300
    assert recording.notes == []


def test_nothing_waits() -> None:
    """The profiler counts the calls that wait for the device: none more than without us."""

    def calls() -> Counter[str]:
        training = Training()
        for _ in range(50):
            training.step()
        torch.cuda.synchronize()
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profiler:
            for _ in range(50):
                training.step()
        return Counter(event.name for event in profiler.events() or ())

    calls()  # whatever happens only once
    alone = calls()
    with recorded(TorchIntegration):
        watched = calls()
    assert {name: watched[name] for name in WAITS} == {name: alone[name] for name in WAITS}
    # One for the loss and one for the norm: else nothing was recorded and this test says nothing.
    assert watched["cudaMemcpyAsync"] == alone["cudaMemcpyAsync"] + 100


def test_weights_are_the_same() -> None:
    """To the bit, with and without."""

    def train() -> torch.Tensor:
        training = Training()
        for _ in range(50):
            training.step()
        return training.weights()

    alone = train()
    with recorded(TorchIntegration):
        assert torch.equal(train(), alone)


def test_times_on_the_device() -> None:
    """Of the twentieth step and its like; their sum is no more than the steps took."""
    with recorded(TorchIntegration) as recording:
        training = Training()
        for _ in range(100):
            training.step()
        torch.cuda.synchronize()
    assert [step for step, _ in recording.series("device_time.backward")] == [20, 40, 60, 80]
    assert all(value > 0.0 for value in recording.values("device_time.forward"))
    assert all(0.0 < value < 10.0 for value in recording.values("device_time.optimizer"))


def test_memory() -> None:
    """A ring of 8 KiB, and what is under way, which is as good as nothing."""

    def peak() -> int:
        torch.cuda.reset_peak_memory_stats()
        training = Training()
        for _ in range(200):
            training.step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()

    peak()
    alone = peak()
    with recorded(TorchIntegration):
        assert peak() <= alone + 2**20


@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_capture_and_replays(mode: str) -> None:
    """A captured training step gives the same weights as without us, and every replay is a step with its loss."""

    def train() -> tuple[torch.Tensor, list[float]]:
        training = Training()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            losses = [training.step() for _ in range(11)]
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        training.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph, capture_error_mode=mode):
            loss = nn.functional.mse_loss(training.model(training.inputs), training.target)
            loss.backward()
            training.optimizer.step()
        for _ in range(20):
            training.inputs.mul_(1.01)
            graph.replay()
            losses.append(loss.detach().clone())
        torch.cuda.synchronize()
        return training.weights(), [float(value) for value in losses]

    weights, losses = train()
    with recorded(TorchIntegration) as recording:
        assert torch.equal(train()[0], weights)
    assert recording.series("loss") == list(enumerate(losses))


def test_losses_of_two_streams() -> None:
    """A loss that is backwarded on a side stream is read there."""
    with recorded(TorchIntegration) as recording:
        training, losses = Training(), []
        side = torch.cuda.Stream()
        for step in range(40):
            if step % 2:
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    losses.append(training.step())
                torch.cuda.current_stream().wait_stream(side)
            else:
                losses.append(training.step())
        torch.cuda.synchronize()
    assert recording.series("loss") == list(enumerate(map(float, losses)))


def test_served_models() -> None:
    """Every answer is looked at and timed, and nothing waits but the program for its own answer."""
    model = nn.Sequential(nn.Linear(64, 4096), nn.ReLU(), nn.Linear(4096, 10)).to("cuda").eval()
    rows = torch.randn(32, 64, device="cuda")

    def serve(served: Any, count: int) -> tuple[Counter[str], list[int]]:
        answers: list[int] = []
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profiler:
            for _ in range(count):
                request = Request()
                TRAFFIC.begin(request)
                token = REQUEST.set(request)
                with torch.inference_mode():
                    answers += served(rows).argmax(1).tolist()
                REQUEST.reset(token)
                TRAFFIC.end(request)
        return Counter(event.name for event in profiler.events() or ()), answers

    serve(model, 3)
    TRAFFIC.after_fork_in_child()
    TRAFFIC.is_counted = True
    with recorded(TorchIntegration):
        watched = looptap.watch(model)
        serve(watched, 3)  # the pinned memory is made, and where it answers is known
        TRAFFIC.done.clear()
        noted, answers = serve(watched, 50)
        windows = Windows()
        windows.begin(now())
        while TRAFFIC.done:
            windows.count(TRAFFIC.done.popleft())
    TRAFFIC.after_fork_in_child()
    alone, expected = serve(model, 50)
    (window,) = windows.close([])
    assert answers == expected
    assert {name: noted[name] for name in WAITS} == {name: alone[name] for name in WAITS}
    assert noted["cudaMemcpyAsync"] == alone["cudaMemcpyAsync"] + 50
    assert (window.requests, window.skipped) == (50, {})
    found = distribution.decode(window.predictions["class"]).classes
    assert found == {str(place): count for place, count in Counter(expected).items()}
    took = histogram.decode(window.latency["model"])
    assert 0 < (took.min or 0) <= (took.max or 0) < 1.0


def test_allocator() -> None:
    """The numbers of the real one, and its observer of failures, which is called once for each."""
    torch.ones(1, device="cuda")
    allocator = TorchAllocator("cuda")
    assert allocator.is_ready()
    held = torch.ones(2**20, device="cuda")
    assert allocator.stats(0)["allocated_bytes"]["all"]["current"] >= 4 * 2**20
    assert max(allocator.blocks(0)) >= held.numel() * 4
    seen: list[tuple[int, ...]] = []
    assert allocator.watch(lambda *numbers: seen.append(numbers))
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**46, dtype=torch.uint8, device="cuda")
    assert len(seen) == 1
    assert seen[0][0] == 0
    assert seen[0][1] >= 2**46
