"""A real program with all of its loggers, from ``autolog()`` to the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import looptap
from programs import Programs

PROGRAM = """
    import json
    import looptap
    looptap.autolog()

    import mlflow, torch, torchmetrics, wandb
    from sklearn.metrics import f1_score
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

    torch.manual_seed(0)
    truth = {}

    def note(key, step, value):
        truth.setdefault(key, []).append([step, float(value)])

    def data(count):
        return TensorDataset(torch.randn(count, 4), torch.randint(3, (count,)))

    def evaluate(model, loader, accuracy):
        model.eval()
        total = 0.0
        with torch.no_grad():
            for x, y in loader:
                outputs = model(x)
                total += criterion(outputs, y).item() * len(y)
                accuracy.update(outputs, y)
        return total / len(loader.dataset)

    model, criterion = nn.Linear(4, 3), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_loader = DataLoader(data(24), batch_size=4)
    val_loader, test_loader = DataLoader(data(10), batch_size=4), DataLoader(data(7), batch_size=3)
    accuracy = torchmetrics.classification.MulticlassAccuracy(num_classes=3, average="micro")
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    writer, run, step = SummaryWriter("tb"), wandb.init(project="p", config={"depth": 2}), -1
    mlflow.start_run()
    for epoch in range(2):
        model.train()
        for x, y in (bar := tqdm(train_loader)):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            step += 1
            bar.set_postfix(loss=loss.item(), best=loss.item() / 2)
            writer.add_scalar("loss", loss.item(), step)
            mlflow.log_metric("loss", loss.item(), step=step)
            wandb.log({"loss": loss.item()})
            looptap.log_metric("loss", loss.item())
            note("loss", step, loss)
            note("best", step, loss.item() / 2)
        note("validation/loss", step, evaluate(model, val_loader, accuracy))
        acc = accuracy.compute()
        accuracy.reset()
        note("validation/acc", step, acc)
        mlflow.log_metric("validation/acc", acc)
    note("test/loss", step, evaluate(model, test_loader, accuracy))
    test_f1 = f1_score([0, 1, 1], [0, 1, 0])
    note("test/f1", step, test_f1)
    writer.add_hparams({"size": 4}, {"final": 0.5})
    note("final", step, 0.5)
    mlflow.log_param("kind", "linear")
    mlflow.end_run()
    run.finish()
    open("truth.json", "w").write(json.dumps(truth))
"""


def test_everything_is_stored_once(tmp_path: Path) -> None:
    """Every value at its step and no other; the settings with who told them."""
    programs = Programs(tmp_path)
    done = programs.python(PROGRAM, WANDB_MODE="offline", WANDB_SILENT="true", PYTHONWARNINGS="ignore")
    assert done.returncode == 0, done.stderr
    truth = json.loads((tmp_path / "truth.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPTAP_STORE", str(programs.store))
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        found = looptap.get_run("latest")
        for key, points in truth.items():
            history = found.history(key)
            stored = [list(point) for point in zip(history["step"].tolist(), history["value"].tolist(), strict=True)]
            assert stored == points, key
        own = {key for key in found.metrics if not key.startswith(("system.", "time.", "epoch_time."))}
        assert own == {*truth, "lr", "epoch", "step_time"}
        params = found.params
    assert {key: params[key] for key in ("depth", "size", "kind")} == {"depth": 2, "size": 4, "kind": "linear"}
