"""Programs that train with Lightning, end to end."""

from __future__ import annotations

import logging

import pytest

from programs import Programs

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore")


PROGRAM = """
    import sys, warnings
    warnings.filterwarnings("ignore")
    import looptap
    if "armed" in sys.argv:
        looptap.autolog()
    import torch
    import {package} as pl

    class Module(pl.LightningModule):
        def __init__(self, lr=0.1):
            super().__init__()
            self.save_hyperparameters()
            self.net = torch.nn.Linear(3, 1)
        def training_step(self, batch, index):
            loss = self.net(batch[0]).pow(2).mean()
            self.log("train_loss", loss)
            print("LOSS", repr(loss.item()))
            return loss
        def validation_step(self, batch, index):
            self.log("val_loss", self.net(batch[0]).pow(2).mean())
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    torch.manual_seed(0)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(16, 3)), batch_size=4)
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", default_root_dir="out", enable_progress_bar=False)
    print("CALLBACKS", [type(callback).__name__ for callback in trainer.callbacks])
    trainer.fit(Module(), data, data)
"""


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_program(programs: Programs, package: str) -> None:
    """End to end, by Lightning's own entry point: the store has the losses that the program printed, and its checkpoint."""
    done = programs.python(PROGRAM.replace("{package}", package), "armed")
    assert done.returncode == 0, done.stderr
    assert "LooptapCallback" in done.stdout
    printed = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("LOSS")]
    shown = programs.record()
    assert shown["run"]["status"] == "finished"
    assert len(printed) == 8
    import looptap

    run = looptap.get_run("latest", store=str(programs.store))
    assert list(run.history("train_loss")["value"]) == printed
    assert list(run.history("val_loss")["step"]) == [3, 7]
    assert [file.name for file in run.artifacts][-1].endswith(".ckpt")


def test_program_without_autolog(programs: Programs) -> None:
    """Lightning is what it was: no callback, no run, no store."""
    done = programs.python(PROGRAM.replace("{package}", "lightning.pytorch"))
    assert done.returncode == 0, done.stderr
    assert "LooptapCallback" not in done.stdout + done.stderr
    assert not programs.store.exists()
