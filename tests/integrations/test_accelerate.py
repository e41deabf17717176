"""Accelerate: the loss of every optimizer step, whatever Accelerate does with it, and what the program logs through it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.tracking import GeneralTracker, on_main_process
from torch.utils.data import DataLoader, TensorDataset

from integrations.recording import Recording, are_close, recorded
from looptap_integrations.accelerate import AccelerateIntegration
from looptap_integrations.torch import TorchIntegration
from programs import Programs

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Accelerate keeps one state for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def record() -> Iterator[Recording]:
    torch.manual_seed(0)
    with recorded(TorchIntegration, AccelerateIntegration) as recording:
        yield recording


class Training:
    """A loop as Accelerate's guide has it, which writes down by hand the loss of every batch."""

    def __init__(self, **more: Any) -> None:
        self.accelerator = Accelerator(cpu=True, **more)
        net = torch.nn.Linear(3, 1)
        loader = DataLoader(TensorDataset(torch.randn(20, 3), torch.randn(20, 1)), batch_size=4)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        self.net, self.optimizer, self.loader = self.accelerator.prepare(net, optimizer, loader)
        self.batches: list[float] = []
        #: The batches of every optimizer step.
        self.steps: list[list[float]] = []
        self.norms: list[float] = []

    def epoch(self, clip: bool = False) -> None:
        gathered: list[float] = []
        for x, y in self.loader:
            with self.accelerator.accumulate(self.net):
                total = ((self.net(x) - y) ** 2).mean()
                self.accelerator.backward(total)
                gathered.append(total.item())
                if clip and self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.net.parameters(), 1.0)
                    assert norm is not None
                    self.norms.append(norm.item())
                self.optimizer.step()
                self.optimizer.zero_grad()
                if self.accelerator.sync_gradients:
                    self.steps.append(gathered)
                    gathered = []


def test_every_step(record: Recording) -> None:
    """One loss for every step, by the program's name for it; the optimizer that Accelerate wraps is no second one."""
    training = Training()
    training.epoch(clip=True)
    assert record.series("total") == list(enumerate(batch[0] for batch in training.steps))
    assert record.series("grad_norm") == list(enumerate(training.norms))
    assert record.series("lr") == [(0, 0.1)]
    assert len(record.series("step_time")) == 5


def test_accumulation(record: Recording) -> None:
    """The loss of a step is the objective that it descends: the sum of its batches over the number that Accelerate divides by
    (at the end of the data that is more than there were)."""
    training = Training(gradient_accumulation_steps=2)
    training.epoch()
    training.epoch()
    assert [len(step) for step in training.steps] == [2, 2, 1, 2, 2, 1]
    assert are_close(record.series("total"), enumerate(sum(step) / 2 for step in training.steps))


def test_mixed_precision(record: Recording) -> None:
    """In bfloat16 the loss is the one that the program has in its hands."""
    training = Training(mixed_precision="bf16")
    training.epoch()
    assert record.series("total") == list(enumerate(step[0] for step in training.steps))
    assert record.params_by_key()["autocast.dtype"] == "bfloat16"


def test_settings(record: Recording) -> None:
    """Accelerate's settings, once for a run, and the config that trackers get."""
    training = Training(gradient_accumulation_steps=4, mixed_precision="bf16")
    training.accelerator.init_trackers("project", config={"hidden": 3, "schedule": {"warmup": 5}})
    params = record.params_by_key()
    assert params["accelerate.gradient_accumulation_steps"] == 4
    assert params["accelerate.mixed_precision"] == "bf16"
    assert params["accelerate.num_processes"] == 1
    assert (params["hidden"], params["schedule.warmup"]) == (3, 5)
    keys = [key for key, _, _ in record.written if key == "accelerate.num_processes"]
    assert len(keys) == 1


class Tracker(GeneralTracker):  # type: ignore[misc]
    """Notes what it is told, and whether we would have listened."""

    name = "witness"
    requires_logging_directory = False

    def __init__(self, record: Recording) -> None:
        super().__init__()
        self.record = record
        self.told: list[tuple[Any, Any]] = []
        self.suppressed: list[bool] = []

    @property
    def tracker(self) -> None:
        return None

    @on_main_process  # type: ignore[untyped-decorator]
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        pass

    @on_main_process  # type: ignore[untyped-decorator]
    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self.told.append((values, step))
        self.suppressed.append(self.record.is_suppressed())


def test_log(record: Recording) -> None:
    """What is handed to accelerator.log has its step, with trackers or without; the tracker still gets the very same."""
    tracker = Tracker(record)
    accelerator = Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("project")
    values = {"accuracy": 0.5, "nested": {"f1": torch.tensor(0.25)}, "note": "text", "many": torch.ones(3)}
    accelerator.log(values, step=7)
    Accelerator(cpu=True).log({"alone": 1}, step=3)
    assert record.series("accuracy") == [(7, 0.5)]
    assert record.series("nested/f1") == [(7, 0.25)]
    assert record.series("alone") == [(3, 1.0)]
    assert record.names() == {"accuracy", "nested/f1", "alone"}
    assert tracker.told == [(values, 7)]
    assert tracker.told[0][0] is values
    assert tracker.suppressed == [True]


def test_logged_loss(record: Recording) -> None:
    """A loss that is on record at that step is not recorded again; another number under its name stays out of the series."""
    training = Training()
    x, y = torch.ones(2, 3), torch.ones(2, 1)
    for number in range(3):
        total = ((training.net(x) - y) ** 2).mean()
        training.accelerator.backward(total)
        training.optimizer.step()
        training.optimizer.zero_grad()
        training.accelerator.log({"total": total.item() if number < 2 else -1.0}, step=number)
    assert len(record.series("total")) == 3
    assert record.series("total", logger="accelerate") == [(2, -1.0)]


def test_checkpoint(record: Recording, tmp_path: Path) -> None:
    """The files of save_state, each once, by folder and name."""
    training = Training()
    training.epoch()
    training.accelerator.save_state(str(tmp_path / "first"))
    names = [(file["name"], file["step"]) for file in record.files]
    assert ("first/model.safetensors", 4) in names
    assert ("first/optimizer.bin", 4) in names
    assert len(names) == len(set(names))


def test_failure(record: Recording) -> None:
    """A backward pass that raises has no loss, and Accelerate's error is the program's."""
    training = Training()
    with pytest.raises(RuntimeError, match="does not require grad"):
        training.accelerator.backward(torch.tensor(1.0))
    training.epoch()
    assert record.series("total") == list(enumerate(step[0] for step in training.steps))


PROGRAM = """
    import looptap
    looptap.autolog()
    import torch
    from accelerate import Accelerator

    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2, log_with="tensorboard", project_dir="logs")
    accelerator.init_trackers("project", config={"hidden": 3})
    net = torch.nn.Linear(3, 1)
    data = torch.utils.data.TensorDataset(torch.randn(16, 3), torch.randn(16, 1))
    net, optimizer, loader = accelerator.prepare(
        net, torch.optim.SGD(net.parameters(), lr=0.1), torch.utils.data.DataLoader(data, batch_size=2)
    )
    seen, step = [], 0
    for x, y in loader:
        with accelerator.accumulate(net):
            loss = ((net(x) - y) ** 2).mean()
            accelerator.backward(loss)
            seen.append(loss.detach() / 2)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            print("LOSS", repr(seen[0].item() + seen[1].item()))
            seen = []
            accelerator.log({"accuracy": step / 10}, step=step)
            step += 1
    accelerator.end_training()
"""


def test_program(programs: Programs) -> None:
    """End to end, with TensorBoard as a tracker: the loss of every step, and what was logged once."""
    done = programs.python(PROGRAM)
    assert done.returncode == 0, done.stderr
    printed = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("LOSS")]
    programs.record()
    import looptap

    run = looptap.get_run("latest", store=str(programs.store))
    assert list(run.history("loss")["value"]) == printed
    assert list(run.history("accuracy")["value"]) == [0.0, 0.1, 0.2, 0.3]
    assert run.params["hidden"] == 3
    assert run.params["accelerate.gradient_accumulation_steps"] == 2
