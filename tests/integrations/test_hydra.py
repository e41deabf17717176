"""Hydra and OmegaConf: the configuration of each job, what was overridden, and one run per job; the store stays in its place."""

from __future__ import annotations

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


def test_configuration_of_a_job(programs: Programs) -> None:
    """Typed values by dotted key; references resolved, missing values left out, secrets gone; given told from default."""
    done = programs.python(written(programs), "lr=0.2", "model=big", "+extra.depth=3", SOME_API_KEY="x1y2z3")
    assert done.returncode == 0, done.stderr
    record = programs.record()
    found = {key: (entry["value"], entry["source"]) for key, entry in record["params"].items()}
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


def test_one_run_for_each_job_of_a_multirun(programs: Programs) -> None:
    """Each with its own settings and losses; what one job has and the next has not does not stay behind. All in one store."""
    done = programs.python(written(programs), "--multirun", "model=small,big", "hydra.job.chdir=True")
    assert done.returncode == 0, done.stderr
    losses = [float(line) for line in done.stdout.split() if "." in line and "[" not in line and line[0].isdigit()]
    runs = looptap.search_runs()
    assert len(runs) == 2
    found = {looptap.get_run(run).params["model.kind"]: looptap.get_run(run) for run in runs["id"]}
    assert set(found) == {"small", "big"}
    assert "model.dropout" in found["small"].params
    assert "model.dropout" not in found["big"].params
    assert found["big"].params["hydra.overrides"] == ["model=big"]
    assert all(run.status == "finished" for run in found.values())
    told = [*found["small"].history("loss")["value"].tolist(), *found["big"].history("loss")["value"].tolist()]
    assert [value for value in losses if value in told] == told


def test_job_that_fails(programs: Programs) -> None:
    """Hydra prints the error and leaves; the run knows how it ended."""
    done = programs.python(written(programs), "+fail=true")
    assert done.returncode == 1
    run = looptap.get_run("latest")
    assert run.status == "failed"
    assert "the job is broken" in (run.error or "")


def test_working_directory_of_a_job_does_not_move_the_store(programs: Programs) -> None:
    """Hydra goes to the job's folder; without a setting the store is where the program was started, autolog() inside or not."""
    for at_top in (True, False):
        place = Programs(programs.folder / str(at_top))
        place.folder.mkdir()
        done = place.python(written(place, at_top), "hydra.job.chdir=True", LOOPTAP_STORE="")
        assert done.returncode == 0, done.stderr
        assert [path.parent for path in place.folder.rglob("looptap.db")] == [place.folder / ".looptap"]
        found = looptap.get_run("latest", store=place.folder / ".looptap")
        assert found.params["lr"] == 0.1
        assert found.params["model.kind"] == "small"
