"""Hydra and OmegaConf: the configuration of each job, what was overridden, and one run per job; the store stays in its place."""

from __future__ import annotations

from pathlib import Path

import looptap
from programs import Programs

PROGRAM = """
import looptap
AT_TOP
import hydra
import torch

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    INSIDE
    model = torch.nn.Linear(2, cfg.model.width)
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg.lr)
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(torch.ones(1, 2)).square().mean()
        loss.backward()
        optimizer.step()
        print(repr(loss.item()), flush=True)
    if cfg.get("fail"):
        raise ValueError("the job is broken")

main()
"""
CONFIG = """
defaults:
  - model: small
  - _self_
lr: 0.1
name: ${model.kind}-${lr}
missing: ???
nowhere: ${not.there}
secret: ${oc.env:SOME_API_KEY}
api_key: abc
layers: [1, 2]
"""


def written(programs: Programs, at_top: bool = True) -> str:
    conf = programs.folder / "conf"
    (conf / "model").mkdir(parents=True)
    (conf / "config.yaml").write_text(CONFIG)
    (conf / "model" / "small.yaml").write_text("kind: small\nwidth: 2\ndropout: 0.5\n")
    (conf / "model" / "big.yaml").write_text("kind: big\nwidth: 4\n")
    call = "looptap.autolog()"
    return PROGRAM.replace("AT_TOP", call if at_top else "").replace("INSIDE", "pass" if at_top else call)


def params(run: looptap.reading.Run) -> dict[str, object]:  # type: ignore[name-defined]
    return {key: value for key, value in run.params.items() if not key.startswith(("torch.", "seed", "deterministic"))}


def test_configuration_of_a_job(programs: Programs) -> None:
    """Typed values by dotted key; references resolved, missing values left out, secrets gone; given told from default."""
    done = programs.python(written(programs), "lr=0.2", "model=big", "+extra.depth=3", SOME_API_KEY="x1y2z3")
    assert done.returncode == 0, done.stderr
    record = programs.record()
    found = {entry["key"]: (entry["value"], entry["source"]) for entry in record["params"]}
    assert found["lr"] == (0.2, "hydra")
    assert found["model.kind"] == ("big", "hydra")
    assert found["model.width"] == (4, "hydra")
    assert found["extra.depth"] == (3, "hydra")
    assert found["name"] == ("big-0.2", "default")
    assert found["layers"] == ([1, 2], "default")
    assert found["nowhere"] == ("${not.there}", "default")
    assert found["api_key"] == ("[redacted]", "default")
    assert "missing" not in found
    assert "x1y2z3" not in str(record)
    assert found["hydra.choices.model"] == ("big", "hydra")
    assert found["hydra.overrides"] == (["lr=0.2", "model=big", "+extra.depth=3"], "hydra")
    # Neither Hydra's own options, nor the same configuration once more as an object of the program.
    assert not {"overrides", "multirun", "config_path", "cfg.lr", "hydra.job.name"} & set(found)
    assert [float(line) for line in done.stdout.split()] == looptap.get_run("latest").history("loss")["value"].tolist()
