"""Lightning: what a fit leaves behind is what the program itself would have written down."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from integrations.recording import Recording, are_close, recorded
from looptap_integrations import lightning_callbacks
from looptap_integrations.lightning import LightningIntegration
from looptap_integrations.torch import TorchIntegration

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore")


class Module(pl.LightningModule):
    """Writes down by hand what it logs."""

    def __init__(self, lr: float = 0.1, width: int = 4, logs: bool = True, is_forked: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(3, 1)
        self.logs = logs
        self.is_forked = is_forked
        self.losses: list[float] = []
        self.validated: list[float] = []

    def loss(self, batch: Any) -> torch.Tensor:
        x, y = batch
        result: torch.Tensor = ((self.net(x) - y) ** 2).mean()
        return result

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.losses.append(loss.item())
        if self.logs:
            self.log("train_loss", loss, on_step=True, on_epoch=self.is_forked)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        loss = self.loss(batch)
        if not self.trainer.sanity_checking:
            self.validated.append(loss.item())
        self.log("val_loss", loss)

    def test_step(self, batch: Any, index: int) -> None:
        self.log("test_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])


class Data(pl.LightningDataModule):
    def __init__(self, shift: float = 0.5) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> Any:
        return loader()


def loader(count: int = 16, batch_size: int = 4) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(count, 3, generator=generator), torch.randn(count, 1, generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=batch_size)


def trainer(folder: Path, **more: Any) -> Any:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
        "max_epochs": 2,
    }
    return pl.Trainer(default_root_dir=str(folder), **{**quiet, **more})


def numbered(values: list[float], first: int = 0) -> list[tuple[int, float]]:
    return list(enumerate(values, first))


@pytest.fixture
def record() -> Iterator[Recording]:
    torch.manual_seed(0)
    with recorded(TorchIntegration, LightningIntegration) as recording:
        yield recording


def test_logged_loss(record: Recording, tmp_path: Path) -> None:
    """A loss that the program logs at every step is there under its name, each step once, and is not recorded a second time."""
    module = Module()
    trainer(tmp_path).fit(module, loader())
    assert record.series("train_loss") == numbered(module.losses)
    assert "loss" not in record.names()
    assert record.series("epoch") == [(0, 0.0), (4, 1.0)]
    assert record.series("lr") == [(0, 0.1)]
    assert record.step == 7


@pytest.mark.parametrize("as_number", [False, True])
def test_logged_as_number_or_detached(record: Recording, tmp_path: Path, as_number: bool) -> None:
    """The same where the program logs ``loss.item()`` or ``loss.detach()``."""

    class Detached(Module):
        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss = self.loss(batch)
            self.losses.append(loss.item())
            self.log("train_loss", loss.item() if as_number else loss.detach())
            return loss

    module = Detached()
    trainer(tmp_path).fit(module, loader())
    assert record.series("train_loss") == numbered(module.losses)
    assert "loss" not in record.names()


def test_loss_that_is_not_logged(record: Recording, tmp_path: Path) -> None:
    """Without a word of the program every step still has its loss."""
    module = Module(logs=False)
    trainer(tmp_path).fit(module, loader())
    assert record.series("loss") == numbered(module.losses)


def test_step_and_epoch(record: Recording, tmp_path: Path) -> None:
    """Lightning's names for both; the mean of an epoch stands at its last step."""
    module = Module(is_forked=True)
    trainer(tmp_path).fit(module, loader())
    assert record.series("train_loss_step") == numbered(module.losses)
    means = [torch.tensor(module.losses[i : i + 4]).mean().item() for i in (0, 4)]
    assert are_close(record.series("train_loss_epoch"), [(3, means[0]), (7, means[1])])
    assert "train_loss" not in record.names()


def test_accumulation(record: Recording, tmp_path: Path) -> None:
    """The loss of a step is the mean of its batches; the last step of an epoch has what is left."""
    module = Module(logs=False)
    trainer(tmp_path, accumulate_grad_batches=2, max_epochs=1).fit(module, loader(24))
    seen = module.losses
    assert [step for step, _ in record.series("loss")] == [0, 1, 2]
    for (_, value), pair in zip(record.series("loss"), (seen[0:2], seen[2:4], seen[4:6]), strict=True):
        assert value == pytest.approx(sum(pair) / 2, rel=1e-6)


def test_accumulation_of_logged_values(record: Recording, tmp_path: Path) -> None:
    """What is logged under accumulation is Lightning's value of the step, that of its last batch; the step's loss stays beside."""
    module = Module()
    trainer(tmp_path, accumulate_grad_batches=2, max_epochs=1).fit(module, loader())
    assert record.series("train_loss") == [(0, module.losses[1]), (1, module.losses[3])]
    assert [step for step, _ in record.series("loss")] == [0, 1]


def test_validation_and_test(record: Recording, tmp_path: Path) -> None:
    """Means of an evaluation under the program's names, once per pass; the sanity check leaves nothing; one run for all."""
    module = Module()
    fit = trainer(tmp_path)
    fit.fit(module, loader(), loader())
    fit.test(module, loader(), verbose=False)
    means = [torch.tensor(module.validated[i : i + 4]).mean().item() for i in (0, 4)]
    assert are_close(record.series("val_loss"), [(3, means[0]), (7, means[1])])
    assert are_close(record.series("test_loss"), [(8, means[1])])
    assert not {name for name in record.names() if name.startswith(("validation/", "test/"))}
    assert record.generation == 1


def test_rare_values(record: Recording, tmp_path: Path) -> None:
    """What is logged now and then has a point then, and no other."""

    class Rare(Module):
        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            if index % 2 == 0:
                self.log("rare", float(index))
            return self.loss(batch)

    trainer(tmp_path, max_epochs=1).fit(Rare(), loader())
    assert record.series("rare") == [(0, 0.0), (2, 2.0)]


def test_hooks_log_too(record: Recording, tmp_path: Path) -> None:
    """Values of the module's own on_train_batch_end and on_train_epoch_end; those kept from loggers are left out."""

    class Hooked(Module):
        def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
            self.log("late", float(index), on_step=True, on_epoch=False)
            self.log("unseen", 1.0, logger=False)

        def on_train_epoch_end(self) -> None:
            self.log("done", 7.0)

    trainer(tmp_path, max_epochs=1).fit(Hooked(), loader(), loader())
    assert record.series("late") == numbered([0.0, 1.0, 2.0, 3.0])
    assert record.series("done") == [(3, 7.0)]
    assert "unseen" not in record.names()


class Two(Module):
    """Manual optimization with two optimizers."""

    def __init__(self, logs: bool) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = torch.nn.Linear(3, 1)
        self.logs = logs
        self.pairs: list[tuple[float, float]] = []

    def training_step(self, batch: Any, index: int) -> None:  # type: ignore[override]
        x, y = batch
        optimizers: Any = self.optimizers()
        first, second = optimizers
        loss_d = ((self.net(x) - y) ** 2).mean()
        first.zero_grad()
        self.manual_backward(loss_d)
        first.step()
        loss_g = ((self.other(x) + y) ** 2).mean()
        second.zero_grad()
        self.manual_backward(loss_g)
        second.step()
        self.pairs.append((loss_d.item(), loss_g.item()))
        if self.logs:
            self.log_dict({"loss_d": loss_d, "loss_g": loss_g})

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(net.parameters(), lr=0.1) for net in (self.net, self.other)]


@pytest.mark.parametrize("logs", [True, False])
def test_manual_optimization(record: Recording, tmp_path: Path, logs: bool) -> None:
    """Each loss has its name and every step one point, whether the program logs it or not."""
    module = Two(logs)
    trainer(tmp_path).fit(module, loader())
    assert record.series("loss_d") == numbered([d for d, _ in module.pairs])
    assert record.series("loss_g") == numbered([g for _, g in module.pairs])


def test_settings(record: Recording, tmp_path: Path) -> None:
    """Hyperparameters of module and data module under their names, the trainer's under ``trainer.``."""
    trainer(tmp_path, max_epochs=1, gradient_clip_val=0.5).fit(Module(lr=0.25, width=7), datamodule=Data(shift=0.75))
    params, sources = record.params_by_key(), record.sources()
    assert (params["lr"], params["width"], params["shift"]) == (0.25, 7, 0.75)
    assert sources["lr"] == "lightning"
    settings = params["trainer.max_epochs"], params["trainer.precision"], params["trainer.gradient_clip_val"]
    assert settings == (1, "32-true", 0.5)
    assert params["trainer.strategy"] == "SingleDeviceStrategy"
    assert params["trainer.accumulate_grad_batches"] == 1


def test_checkpoints(record: Recording, tmp_path: Path) -> None:
    """Each file once, with its step, and with what the callback takes it for."""
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{epoch}", monitor="val_loss", save_top_k=-1, save_last=True)
    fit = trainer(tmp_path, callbacks=[keep], enable_checkpointing=True)
    fit.fit(Module(), loader(), loader())
    fit.save_checkpoint(tmp_path / "by_hand.ckpt")
    found = [(Path(file["path"]).name, file["step"], file["kind"]) for file in record.files]
    assert found == [
        ("epoch=0.ckpt", 3, "model"),
        ("last.ckpt", 3, "model"),
        ("epoch=1.ckpt", 7, "model"),
        ("last.ckpt", 7, "model"),
        ("by_hand.ckpt", 7, "model"),
    ]
    assert [file["description"] for file in record.files][:2] == ["best val_loss", "last"]
    kept = torch.load(tmp_path / "by_hand.ckpt", weights_only=False)
    assert not [key for key in kept["callbacks"] if "Looptap" in key]


def test_resume(record: Recording, tmp_path: Path) -> None:
    """A resumed fit counts on from its checkpoint, in PyTorch's series too."""
    first = trainer(tmp_path)
    first.fit(Module(), loader())
    first.save_checkpoint(tmp_path / "a.ckpt")
    again = Module()
    trainer(tmp_path, max_epochs=3).fit(again, loader(), ckpt_path=tmp_path / "a.ckpt")
    assert record.series("train_loss")[8:] == numbered(again.losses, 8)
    assert [step for step, _ in record.series("step_time")][-4:] == [8, 9, 10, 11]
    assert record.generation == 1


def test_two_fits_are_two_runs(record: Recording, tmp_path: Path) -> None:
    """A fit that counts from 0 again is another run."""
    one, two = Module(), Module()
    trainer(tmp_path).fit(one, loader())
    assert record.generation == 1
    trainer(tmp_path).fit(two, loader())
    assert record.generation == 2
    assert record.series("train_loss") == numbered(one.losses) + numbered(two.losses)


def test_loggers_tell_nothing_twice(record: Recording, tmp_path: Path) -> None:
    """Nothing is recorded of what Lightning itself hands to TensorBoard."""
    seen: list[bool] = []

    class Spy(pl.loggers.CSVLogger):
        def log_metrics(self, *args: Any, **kwargs: Any) -> None:
            seen.append(record.is_suppressed())
            super().log_metrics(*args, **kwargs)

    trainer(tmp_path, logger=Spy(tmp_path), log_every_n_steps=1).fit(Module(), loader(), loader())
    assert seen
    assert all(seen)
    assert not record.is_suppressed()


def test_failure(record: Recording, tmp_path: Path) -> None:
    """A fit that raises is over for us as well: the next plain loop is recorded as ever."""

    class Failing(Module):
        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            if index == 2:
                raise RuntimeError("no")
            return super().training_step(batch, index)

    module = Failing()
    with pytest.raises(RuntimeError, match="no"):
        trainer(tmp_path).fit(module, loader())
    assert record.series("train_loss") == numbered(module.losses)
    assert record.unusual == 0
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = net(torch.ones(1, 3)).sum()
    loss.backward()
    optimizer.step()
    assert record.series("loss") == [(2, loss.item())]


def test_trainer_made_before(tmp_path: Path) -> None:
    """A trainer that was made before autolog() is recorded too, and its callbacks are the same list afterwards."""
    given: list[Any] = []
    fit, module = trainer(tmp_path, callbacks=given), Module()
    callbacks = fit.callbacks
    with recorded(TorchIntegration, LightningIntegration) as record:
        fit.fit(module, loader())
        assert record.series("train_loss") == numbered(module.losses)
    assert fit.callbacks is callbacks
    assert not [callback for callback in fit.callbacks if type(callback).__name__ == "LooptapCallback"]


def test_two_callbacks_in_one_trainer(record: Recording, tmp_path: Path) -> None:
    """Lightning adds to the list that the user passes, who may pass it on to the next trainer: values still come once."""
    fit, module = trainer(tmp_path), Module()
    for _ in range(2):
        fit.callbacks.extend(lightning_callbacks.lightning_pytorch())
    fit.fit(module, loader(), loader())
    assert record.series("train_loss") == numbered(module.losses)
    assert record.series("epoch") == [(0, 0.0), (4, 1.0)]


def test_factory_is_silent_without_autolog() -> None:
    """No callback unless the integration is installed."""
    assert lightning_callbacks.lightning_pytorch() == []
    with recorded(LightningIntegration):
        assert [type(one).__name__ for one in lightning_callbacks.lightning_pytorch()] == ["LooptapCallback"]
        assert lightning_callbacks.pytorch_lightning() == []
    assert lightning_callbacks.lightning_pytorch() == []


def test_copies(record: Recording, tmp_path: Path) -> None:
    """The callback pickles and deep-copies, and the copy of a trainer still trains and is recorded."""
    fit = trainer(tmp_path)
    (callback,) = lightning_callbacks.lightning_pytorch()
    assert type(pickle.loads(pickle.dumps(callback))) is type(callback)
    fit.callbacks.append(callback)
    again, module = copy.deepcopy(fit), Module()
    again.fit(module, loader())
    assert record.series("train_loss") == numbered(module.losses)
