"""Folders that ``save_pretrained`` writes, and what ``from_pretrained`` reads from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

from integrations.recording import Recording, recorded
from looptap.serving.origins import ORIGINS
from looptap_integrations.pretrained import PretrainedIntegration, PretrainedTokenizerIntegration
from looptap_integrations.safetensors import SafetensorsIntegration, SafetensorsTorchIntegration
from looptap_integrations.torch import TorchIntegration

ALL = (
    TorchIntegration,
    SafetensorsIntegration,
    SafetensorsTorchIntegration,
    PretrainedIntegration,
    PretrainedTokenizerIntegration,
)


@pytest.fixture
def record() -> Iterator[Recording]:
    with recorded(*ALL) as recording:
        yield recording


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# Of these its stubs know too little.
library: Any = transformers
BertTokenizerFast, GenerationConfig = library.BertTokenizerFast, library.GenerationConfig


def tiny() -> Any:
    return BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=20)
    )


def named(record: Recording) -> set[str]:
    return {file["name"] for file in record.files}


def test_each_file_once(record: Recording) -> None:
    """A model with its configuration and a tokenizer: every file of the folder once, under the folder's name."""
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(1, 3, dtype=torch.long)).pooler_output.sum().backward()
    optimizer.step()
    model.save_pretrained("checkpoint-1")
    Path("vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))
    BertTokenizerFast("vocab.txt").save_pretrained(Path("checkpoint-1"))
    assert named(record) == {f"checkpoint-1/{name}" for name in os.listdir("checkpoint-1")}
    assert len(record.files) == len(os.listdir("checkpoint-1"))
    assert "checkpoint-1/model.safetensors" in named(record)
    assert all((file["kind"], file["step"]) == ("model", 0) for file in record.files)


def test_only_what_was_written(record: Recording) -> None:
    """What was in the folder before stays out; what is saved again is a new version; shards are files like any other."""
    os.mkdir("out")
    Path("out/notes.txt").write_text("mine")
    model = tiny()
    model.save_pretrained("out", max_shard_size="2KB")
    shards = {f"out/{name}" for name in os.listdir("out") if name.endswith(".safetensors")}
    assert len(shards) > 2
    assert named(record) == {*shards, "out/model.safetensors.index.json", "out/config.json"}
    record.files.clear()
    GenerationConfig(max_length=5).save_pretrained("out")
    assert named(record) == {"out/generation_config.json"}


def test_failure_is_the_users(record: Recording) -> None:
    """A file in the place of the folder."""
    Path("taken").write_text("mine")
    with pytest.raises((AssertionError, OSError)):
        tiny().save_pretrained("taken/below")
    assert record.files == []


def test_read(record: Recording) -> None:
    """The weights are an input, by the path that they were read from; also of a pickled checkpoint."""
    model = tiny()
    with record.suppress():
        model.save_pretrained("safe")
        os.mkdir("pickled")
        torch.save(model.state_dict(), "pickled/pytorch_model.bin")
        model.config.save_pretrained("pickled")
    for folder in ("safe", "pickled"):
        found: Any = BertModel.from_pretrained(folder)
        assert torch.equal(found.pooler.dense.weight, model.pooler.dense.weight)
    assert [(os.path.relpath(file["path"]), file["role"]) for file in record.files] == [
        ("safe/model.safetensors", "input"),
        ("pickled/pytorch_model.bin", "input"),
    ]


def origin(model: Any) -> str | None:
    file = ORIGINS.of(model)
    return None if file is None else os.path.relpath(file.path)


@pytest.mark.usefixtures("record")
def test_whose_weights() -> None:
    """All of them from one file, in whatever format; also where some are tied to others and lie there once."""
    tiny().save_pretrained("safe")
    os.mkdir("pickled")
    torch.save(tiny().state_dict(), "pickled/pytorch_model.bin")
    tiny().config.save_pretrained("pickled")
    BertForMaskedLM(tiny().config).save_pretrained("tied")
    assert origin(BertModel.from_pretrained("safe")) == "safe/model.safetensors"
    assert origin(BertModel.from_pretrained("pickled")) == "pickled/pytorch_model.bin"
    found: Any = BertForMaskedLM.from_pretrained("tied")
    assert origin(found) == "tied/model.safetensors"
    automatic: Any = library.AutoModel.from_pretrained("safe")
    assert type(automatic) is BertModel
    assert origin(automatic) == "safe/model.safetensors"
    told: Any = BertModel.from_pretrained("safe", output_loading_info=True)
    assert origin(told[0]) == "safe/model.safetensors"


@pytest.mark.usefixtures("record")
def test_weights_of_no_one_file() -> None:
    """In shards, given by the program, with a head that is new, or replaced after they were read."""
    tiny().save_pretrained("shards", max_shard_size="2KB")
    tiny().save_pretrained("safe")
    assert origin(BertModel.from_pretrained("shards")) is None
    assert origin(BertModel.from_pretrained(None, config=tiny().config, state_dict=tiny().state_dict())) is None
    assert origin(BertForSequenceClassification.from_pretrained("safe")) is None
    other = BertConfig(**{**tiny().config.to_dict(), "vocab_size": 30})
    assert origin(BertModel.from_pretrained("safe", config=other, ignore_mismatched_sizes=True)) is None
    model: Any = BertModel.from_pretrained("safe")
    torch.save({"pooler.dense.bias": torch.ones(8)}, "part.pt")
    model.load_state_dict(torch.load("part.pt"), strict=False)
    assert origin(model) is None
    with pytest.raises(OSError, match="nowhere"):
        BertModel.from_pretrained("./nowhere")
    assert origin(BertModel.from_pretrained("safe")) == "safe/model.safetensors"
