"""Ignite: engines that train, engines that evaluate, and what each leaves."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver, ModelCheckpoint
from ignite.metrics import ConfusionMatrix, Loss, MeanSquaredError, RunningAverage
from torch.utils.data import DataLoader, TensorDataset

from integrations.recording import Recording, are_close, recorded
from looptap_integrations.ignite import IgniteIntegration
from looptap_integrations.torch import TorchIntegration
from programs import Programs

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def record() -> Iterator[Recording]:
    torch.manual_seed(0)
    with recorded(TorchIntegration, IgniteIntegration) as recording:
        yield recording


def fail(engine: Engine) -> None:
    raise RuntimeError("no")


def loader(count: int = 20, seed: int = 1) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(count, 3, generator=generator), torch.randn(count, 1, generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=4)


class Training:
    """A trainer that writes down by hand the loss of every iteration."""

    def __init__(self, returns: Any = lambda loss: loss.item()) -> None:
        self.net = torch.nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.losses: list[float] = []
        self.returns = returns
        self.trainer = Engine(self.update)

    def update(self, engine: Engine, batch: Any) -> Any:
        x, y = batch
        self.optimizer.zero_grad()
        loss = ((self.net(x) - y) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())
        return self.returns(loss)


def test_losses_and_epochs(record: Recording) -> None:
    """Every iteration has its loss once, though the engine returns it too; epochs are Ignite's, from 1."""
    training = Training()
    training.trainer.run(loader(), max_epochs=2)
    assert record.series("loss") == list(enumerate(training.losses))
    assert record.series("epoch") == [(0, 1.0), (5, 2.0)]
    assert record.params_by_key()["trainer.max_epochs"] == 2
    assert record.params_by_key()["trainer.epoch_length"] == 5
    assert record.names() == {"loss", "epoch", "lr", "step_time"}


def test_outputs_by_name(record: Recording) -> None:
    """A dict of numbers is recorded by its keys, without the loss under a second name; what is no number is not."""
    training = Training(
        lambda loss: {"batch_loss": loss.item(), "half": loss / 2, "seen": 4, "text": "no", "x": torch.ones(3)}
    )
    training.trainer.run(loader(), max_epochs=1)
    assert record.series("half") == [(n, value / 2) for n, value in enumerate(training.losses)]
    assert record.series("seen") == [(n, 4.0) for n in range(5)]
    assert not {"batch_loss", "text", "x"} & record.names()


def test_metrics_of_the_trainer(record: Recording) -> None:
    """Metrics attached to the trainer are recorded at the end of an epoch, under their names."""
    training = Training()
    RunningAverage(output_transform=lambda output: output).attach(training.trainer, "average")
    training.trainer.run(loader(), max_epochs=2)
    assert [step for step, _ in record.series("average")] == [4, 9]
    assert record.values("average")[-1] == training.trainer.state.metrics["average"]


def test_evaluators(record: Recording) -> None:
    """One evaluator over two data sets, as in Ignite's own examples: each under its split, at the trainer's step."""
    training = Training()
    evaluator = create_supervised_evaluator(
        training.net,
        metrics={"mse": MeanSquaredError(), "nll": Loss(torch.nn.functional.mse_loss)},
    )
    train_loader, val_loader, test_loader = loader(), loader(8, seed=2), loader(8, seed=3)
    truth: dict[str, list[float]] = {"train": [], "validation": []}

    @training.trainer.on(Events.EPOCH_COMPLETED)
    def evaluate(engine: Engine) -> None:
        evaluator.run(train_loader)
        truth["train"].append(evaluator.state.metrics["mse"])
        evaluator.run(val_loader)
        truth["validation"].append(evaluator.state.metrics["mse"])

    training.trainer.run(train_loader, max_epochs=2)
    evaluator.run(test_loader)
    for split, values in truth.items():
        assert record.series(f"{split}/mse") == list(zip((4, 9), values, strict=True))
    assert record.series("test/mse") == [(9, evaluator.state.metrics["mse"])]
    assert [step for step, _ in record.series("validation/nll")] == [4, 9]
    assert "validation/loss" not in record.names()
    assert record.series("loss") == list(enumerate(training.losses))
    assert record.series("epoch") == [(0, 1.0), (5, 2.0)]


def test_no_name_says_the_split(record: Recording) -> None:
    """Where names say nothing, the trainer's own data is ``train`` and all else ``validation``."""
    training = Training()
    judge = create_supervised_evaluator(training.net, metrics={"mse": MeanSquaredError()})
    one, two = loader(), loader(8, seed=2)

    @training.trainer.on(Events.COMPLETED)
    def evaluate(engine: Engine) -> None:
        judge.run(one)
        judge.run(two)

    training.trainer.run(one, max_epochs=1)
    assert len(record.series("train/mse")) == len(record.series("validation/mse")) == 1


def test_a_metric_with_many_numbers(record: Recording) -> None:
    """Is left out, and told."""
    engine = Engine(lambda engine, batch: (torch.eye(3), torch.arange(3)))
    ConfusionMatrix(3).attach(engine, "matrix")
    engine.run([0, 1], max_epochs=1)
    assert "the metric matrix of an engine is no single number" in record.notes
    assert record.names() == set()


def test_ready_made_trainer(record: Recording) -> None:
    """``create_supervised_trainer`` with accumulation: a step is the optimizer's."""
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    trainer = create_supervised_trainer(net, optimizer, torch.nn.MSELoss(), gradient_accumulation_steps=2)
    seen: list[float] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(engine.state.output))
    trainer.run(loader(24), max_epochs=1)
    # Ignite returns the loss as it was before the division.
    assert are_close(record.series("loss"), enumerate((seen[2 * n] + seen[2 * n + 1]) / 2 for n in range(3)))


def test_checkpoints(record: Recording, tmp_path: Path) -> None:
    """Files by their last name, once, with step and score."""
    training = Training()
    saver = ModelCheckpoint(tmp_path, "net", n_saved=None, score_function=lambda engine: 0.5, score_name="score")
    training.trainer.add_event_handler(Events.EPOCH_COMPLETED, saver, {"net": training.net})
    plain = Checkpoint(
        {"net": training.net}, DiskSaver(tmp_path, require_empty=False, atomic=False), filename_prefix="p"
    )
    training.trainer.add_event_handler(Events.COMPLETED, plain)
    training.trainer.run(loader(), max_epochs=2)
    found = [(Path(file["path"]).name, file["step"], file["description"]) for file in record.files]
    assert found == [
        ("net_net_score=0.5000.pt", 4, "score 0.5"),
        ("net_net_score=0.5000.pt", 9, "score 0.5"),
        ("p_net_10.pt", 9, None),
    ]


def test_engines_are_as_they_were(record: Recording) -> None:
    """After a run an engine has the handlers that it had before; it can be copied, and its copy is recorded."""
    training = Training()
    before = {event: len(handlers) for event, handlers in training.trainer._event_handlers.items()}
    training.trainer.run(loader(), max_epochs=1)
    after = {event: len(handlers) for event, handlers in training.trainer._event_handlers.items() if handlers}
    assert after == {event: count for event, count in before.items() if count}
    copy.deepcopy(training.trainer.state)


def test_two_runs_of_a_trainer(record: Recording) -> None:
    """As with two plain loops, the steps of the second follow those of the first."""
    training = Training()
    training.trainer.run(loader(), max_epochs=1)
    training.trainer.state.max_epochs = None
    training.trainer.run(loader(), max_epochs=1)
    assert record.series("loss") == list(enumerate(training.losses))
    assert record.generation == 1


def test_failure(record: Recording) -> None:
    """An engine that raises is over for us as well."""
    training = Training()
    failing = training.trainer.add_event_handler(Events.ITERATION_STARTED(once=3), fail)
    with failing, pytest.raises(RuntimeError, match="no"):
        training.trainer.run(loader(), max_epochs=1)
    assert record.series("loss") == list(enumerate(training.losses))
    assert len(training.losses) == 2
    assert record.unusual == 0
    training.trainer = Engine(training.update)
    training.trainer.run(loader(), max_epochs=1)
    assert record.series("loss") == list(enumerate(training.losses))


def test_loggers_tell_nothing_twice(record: Recording, tmp_path: Path) -> None:
    """What TensorBoard's handler writes of the same metrics is not recorded again."""
    from ignite.handlers.tensorboard_logger import TensorboardLogger

    training = Training()
    RunningAverage(output_transform=lambda output: output).attach(training.trainer, "average")
    logger = TensorboardLogger(log_dir=str(tmp_path))
    logger.attach_output_handler(training.trainer, Events.EPOCH_COMPLETED, tag="training", metric_names=["average"])
    seen: list[bool] = []
    original = logger.writer.add_scalar

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.append(record.is_suppressed())
        return original(*args, **kwargs)

    logger.writer.add_scalar = spy
    training.trainer.run(loader(), max_epochs=2)
    logger.close()
    assert seen == [True, True]
    assert len(record.series("average")) == 2


PROGRAM = """
    import looptap
    looptap.autolog()
    import torch
    from ignite.engine import Engine, Events, create_supervised_evaluator
    from ignite.metrics import MeanSquaredError

    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    data = torch.utils.data.TensorDataset(torch.randn(16, 3), torch.randn(16, 1))
    train_loader = torch.utils.data.DataLoader(data, batch_size=4)
    val_loader = torch.utils.data.DataLoader(data, batch_size=8)

    def update(engine, batch):
        optimizer.zero_grad()
        loss = ((net(batch[0]) - batch[1]) ** 2).mean()
        loss.backward()
        optimizer.step()
        print("LOSS", repr(loss.item()))
        return {"loss": loss.item()}

    trainer = Engine(update)
    evaluator = create_supervised_evaluator(net, metrics={"mse": MeanSquaredError()})

    @trainer.on(Events.EPOCH_COMPLETED)
    def evaluate(engine):
        evaluator.run(val_loader)
        print("MSE", repr(evaluator.state.metrics["mse"]))

    trainer.run(train_loader, max_epochs=3)
"""


def test_program(programs: Programs) -> None:
    """End to end: the store has what the program printed, each value once."""
    done = programs.python(PROGRAM)
    assert done.returncode == 0, done.stderr
    programs.record()
    import looptap

    run = looptap.get_run("latest", store=str(programs.store))
    for word, name in (("LOSS", "loss"), ("MSE", "validation/mse")):
        printed = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith(word)]
        assert list(run.history(name)["value"]) == printed, name
    assert list(run.history("epoch")["value"]) == [1.0, 2.0, 3.0]
