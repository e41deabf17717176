"""The Trainer of Transformers: what it logs, under its names, and the loss of every step."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from integrations.recording import Recording, recorded
from looptap_integrations.torch import TorchIntegration
from looptap_integrations.transformers import TransformersIntegration
from programs import Programs

pytestmark = pytest.mark.filterwarnings("ignore")


def model() -> Any:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=30, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config)


def data(count: int = 16) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(0, 30, (6,), generator=generator) for _ in range(count)]
    return [{"input_ids": row, "labels": row} for row in rows]


def settings(folder: Path, kind: Any = TrainingArguments, **more: Any) -> Any:
    chosen: dict[str, Any] = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        **more,
    }
    return kind(output_dir=str(folder / "out"), **chosen)


class Witness(TrainerCallback):
    """Writes down by hand what the Trainer logs."""

    def __init__(self) -> None:
        self.logs: list[tuple[int, dict[str, Any]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append((state.global_step, dict(logs)))

    def series(self, name: str) -> list[tuple[int, float]]:
        return [(step, float(logs[name])) for step, logs in self.logs if name in logs]


class Summing(Trainer):
    """Writes down by hand the loss of every step: the sum of what its batches give, which are divided already."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batches: list[float] = []

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.batches.append(loss.item())
        return loss


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(TorchIntegration, TransformersIntegration) as recording:
        yield recording


def test_every_log_of_one_step(record: Recording, tmp_path: Path) -> None:
    """Each of the Trainer's values once, at its global step; a loss that is the step's own is there once."""
    witness = Witness()
    trainer = Summing(model(), settings(tmp_path), train_dataset=data(), callbacks=[witness])
    trainer.train()
    assert record.series("loss") == list(enumerate(trainer.batches, 1))
    told = witness.series("loss")
    assert [step for step, _ in told] == [*range(1, 9)]
    # Before 5.0 the Trainer rounds to four digits.
    assert record.values("loss") == pytest.approx([value for _, value in told], abs=5e-5)
    for name in ("learning_rate", "grad_norm", "train_loss", "train_runtime"):
        assert record.series(name) == witness.series(name)
    assert record.series("epoch") == [(step, step / 4) for step in range(1, 9)]
    assert not {"train/loss", "lr"} & record.names()
    assert record.step == 8


def test_mean_of_several_steps(record: Recording, tmp_path: Path) -> None:
    """Every step's loss is ``loss``; the Trainer's mean over its last ones is called what its reporters call it."""
    witness = Witness()
    trainer = Summing(model(), settings(tmp_path, logging_steps=4), train_dataset=data(), callbacks=[witness])
    trainer.train()
    assert record.series("loss") == list(enumerate(trainer.batches, 1))
    assert record.series("train/loss") == witness.series("loss")
    assert [step for step, _ in record.series("train/loss")] == [4, 8]


def test_one_process_of_a_job_tells(record: Recording, tmp_path: Path) -> None:
    """What the Trainer logs is the same in all of its processes, and is told by the first; each has the losses of its own steps."""

    class Second(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            state.is_world_process_zero = False

    trainer = Summing(model(), settings(tmp_path, save_strategy="epoch"), train_dataset=data(), callbacks=[Second()])
    trainer.train()
    assert record.series("loss") == list(enumerate(trainer.batches, 1))
    assert record.names() == {"loss", "step_time"}
    assert record.files == []


def test_accumulation(record: Recording, tmp_path: Path) -> None:
    """The loss of a step is the sum of what its batches contribute."""
    chosen = settings(tmp_path, gradient_accumulation_steps=2, per_device_train_batch_size=2, num_train_epochs=1)
    trainer = Summing(model(), chosen, train_dataset=data())
    trainer.train()
    seen = trainer.batches
    assert record.series("loss") == [(n, seen[2 * n - 2] + seen[2 * n - 1]) for n in range(1, 5)]


def test_evaluation_and_prediction(record: Recording, tmp_path: Path) -> None:
    """``eval_*`` and ``test_*`` at the step that they belong to, in and after the training; nothing from the layer below."""
    witness = Witness()
    trainer = Trainer(
        model(),
        settings(tmp_path, eval_strategy="epoch"),
        train_dataset=data(),
        eval_dataset=data(4),
        callbacks=[witness],
    )
    trainer.train()
    trainer.evaluate()
    rows: Any = data(4)
    predicted = trainer.predict(rows).metrics
    assert predicted is not None
    assert [step for step, _ in record.series("eval_loss")][:2] == [4, 8]
    assert record.series("eval_loss")[:2] == witness.series("eval_loss")[:2]
    assert record.series("test_loss") == [(8, predicted["test_loss"])]
    assert not {name for name in record.names() if name.startswith(("validation/", "test/"))}
    assert record.generation == 1


def test_settings(record: Recording, tmp_path: Path) -> None:
    """Arguments under their names and the model's config under ``config.``, typed; no token."""
    Trainer(model(), settings(tmp_path, hub_token="hf_secret", max_grad_norm=0.5), train_dataset=data()).train()
    params = record.params_by_key()
    assert (params["num_train_epochs"], params["per_device_train_batch_size"], params["max_grad_norm"]) == (2, 4, 0.5)
    assert (params["config.n_layer"], params["config.vocab_size"], params["config.model_type"]) == (1, 30, "gpt2")
    assert record.sources()["max_grad_norm"] == "transformers"
    assert "hf_secret" not in repr(record.written)


def test_checkpoints(record: Recording, tmp_path: Path) -> None:
    """The files of every checkpoint, by folder and name, with its step. (4.46 saves the last one twice.)"""
    chosen = settings(tmp_path, save_strategy="epoch", eval_strategy="epoch", load_best_model_at_end=True)
    trainer = Trainer(model(), chosen, train_dataset=data(), eval_dataset=data(4))
    trainer.train()
    weights = {
        (file["name"], file["step"], file["kind"]) for file in record.files if "model.safetensors" in file["path"]
    }
    assert weights == {("checkpoint-4/model.safetensors", 4, "model"), ("checkpoint-8/model.safetensors", 8, "model")}
    best = {file["name"].split("/")[0] for file in record.files if file["description"] == "best"}
    assert Path(str(trainer.state.best_model_checkpoint)).name in best


def test_resume(record: Recording, tmp_path: Path) -> None:
    """A resumed training counts on."""
    Trainer(model(), settings(tmp_path, save_strategy="epoch", num_train_epochs=1), train_dataset=data()).train()
    again = Summing(model(), settings(tmp_path), train_dataset=data())
    again.train(resume_from_checkpoint=True)
    assert record.series("loss")[4:] == list(enumerate(again.batches, 5))
    assert record.generation == 1


def test_two_trainings_are_two_runs(record: Recording, tmp_path: Path) -> None:
    """Another trainer counts from 0, and is another run."""
    for _ in range(2):
        Trainer(model(), settings(tmp_path), train_dataset=data()).train()
    assert record.generation == 2
    assert [step for step, _ in record.series("loss")] == [*range(1, 9)] * 2


def test_the_callers_list_is_left_alone(record: Recording, tmp_path: Path) -> None:
    """Neither what the user passes nor the framework's defaults change; subclasses and late ones get the callback once."""
    import transformers.trainer

    defaults = list(transformers.trainer.DEFAULT_CALLBACKS)
    given: list[Any] = [Witness()]
    trainer = Seq2SeqTrainer(
        model(), settings(tmp_path, Seq2SeqTrainingArguments), train_dataset=data(), callbacks=given
    )
    trainer.train()
    assert len(given) == 1
    assert defaults == transformers.trainer.DEFAULT_CALLBACKS
    kinds = [type(callback).__name__ for callback in trainer.callback_handler.callbacks]
    assert kinds.count("LooptapCallback") == 1
    assert [step for step, _ in record.series("learning_rate")] == [*range(1, 9)]


def test_trainer_made_before(tmp_path: Path) -> None:
    """A trainer from before autolog() is recorded from its next call on; after the end it is left in peace."""
    trainer = Summing(model(), settings(tmp_path), train_dataset=data())
    with recorded(TorchIntegration, TransformersIntegration) as record:
        trainer.train()
        assert record.series("loss") == list(enumerate(trainer.batches, 1))
        assert len(record.series("learning_rate")) == 8
    points = len(record.points)
    trainer.train()
    assert len(record.points) == points


def test_reporters_tell_nothing_twice(record: Recording, tmp_path: Path) -> None:
    """What TensorBoard's reporter writes is not recorded again."""
    from torch.utils.tensorboard import SummaryWriter

    seen: list[bool] = []
    original = SummaryWriter.add_scalar

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(record.is_suppressed())
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SummaryWriter, "add_scalar", spy)
        patch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tb"))
        Trainer(model(), settings(tmp_path, report_to="tensorboard"), train_dataset=data()).train()
    assert seen
    assert all(seen)


def test_failure(record: Recording, tmp_path: Path) -> None:
    """A training that raises is over for us as well."""

    class Failing(Summing):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            if len(self.batches) == 3:
                raise RuntimeError("no")
            return super().training_step(*args, **kwargs)

    trainer = Failing(model(), settings(tmp_path), train_dataset=data())
    with pytest.raises(RuntimeError, match="no"):
        trainer.train()
    assert record.series("loss") == list(enumerate(trainer.batches, 1))
    assert record.unusual == 0


def test_copies(record: Recording, tmp_path: Path) -> None:
    """The callback pickles and deep-copies as a new one."""
    trainer = Trainer(model(), settings(tmp_path), train_dataset=data())
    (callback,) = (one for one in trainer.callback_handler.callbacks if type(one).__name__ == "LooptapCallback")
    assert type(pickle.loads(pickle.dumps(callback))) is type(callback)
    assert type(copy.deepcopy(callback)) is type(callback)


PROGRAM = """
    import json, warnings
    warnings.filterwarnings("ignore")
    import looptap
    looptap.autolog()
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=30, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    rows = [torch.randint(0, 30, (6,)) for _ in range(16)]
    arguments = TrainingArguments(
        output_dir="out", num_train_epochs=2, per_device_train_batch_size=4, logging_steps=1, eval_strategy="epoch",
        save_strategy="epoch", report_to="tensorboard", use_cpu=True, disable_tqdm=True,
    )
    rows = [{"input_ids": row, "labels": row} for row in rows]
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows[:4])
    trainer.train()
    print("HISTORY", json.dumps(trainer.state.log_history))
"""


def test_program(programs: Programs) -> None:
    """End to end: the store has what the Trainer's own history has, each value once."""
    done = programs.python(PROGRAM)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("HISTORY"))
    history = json.loads(line.removeprefix("HISTORY"))
    import looptap

    programs.record()
    run = looptap.get_run("latest", store=str(programs.store))
    for name in ("loss", "learning_rate", "grad_norm", "eval_loss", "train_loss"):
        table = run.history(name)
        truth = [(entry["step"], entry[name]) for entry in history if name in entry]
        assert list(table["step"]) == [step for step, _ in truth], name
        # Before 5.0 the Trainer rounds the loss to four digits.
        assert list(table["value"]) == pytest.approx(
            [value for _, value in truth], abs=5e-5 if name == "loss" else 0
        ), name
    assert run.params["num_train_epochs"] == 2
    assert "checkpoint-8/model.safetensors" in {file.name for file in run.artifacts}
