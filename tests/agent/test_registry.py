"""Integrations wake when the program imports their framework, before or after autolog(), and never hurt that import."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from looptap.recorder import Recorder
from looptap.redaction import Redactor
from looptap.registry import Registry, supported
from programs import Programs

STEPS = [
    "import torch",
    "model = torch.nn.Linear(2, 1)",
    "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)",
]


@pytest.mark.parametrize("place", range(4), ids=["first", "torch imported", "model made", "optimizer made"])
def test_any_order(place: int, programs: Programs) -> None:
    """autolog() before and after all that a program does first: each step's loss is recorded."""
    lines = [*STEPS[:place], "import looptap; looptap.autolog(quiet=True)", *STEPS[place:]]
    done = programs.python(
        "\n".join(lines)
        + """
for step in range(3):
    loss = model(torch.ones(4, 2)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(repr(loss.item()))
"""
    )
    assert done.returncode == 0, done.stderr
    record = programs.record()
    loss = record["metrics"]["loss"]
    assert loss["count"] == 3
    assert (loss["first_step"], loss["last_step"]) == (0, 2)
    assert loss["last"] == float(done.stdout.split()[-1])
    assert record["params"]["optimizer.lr"]["value"] == 0.1


def test_autolog_imports_no_framework(programs: Programs) -> None:
    """Neither import looptap nor autolog() imports a framework, numpy, or the collector."""
    done = programs.python(
        """
        import sys
        import looptap
        looptap.autolog()
        heavy = {"torch", "numpy", "tensorflow", "keras", "pandas", "sqlalchemy", "looptap_collector", "requests"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_autolog_alone_leaves_nothing(programs: Programs) -> None:
    """A program that never trains makes no run, no folder and no line."""
    done = programs.python("import looptap; looptap.autolog(); print('done')")
    assert (done.stdout, done.stderr) == ("done\n", "")
    assert not programs.store.exists()
    assert not (programs.folder / "state").exists()


THIRD_PARTY = """
from looptap import Integration
from looptap.integration import Capture

class Good(Integration):
    requires = ""
    captures = (Capture("calls of made_up.train", "made_up.train", "each call"),)

    def install(self, patch, record):
        patch.observe("made_up", "train", self.on_train)

    def on_train(self, call):
        yield
        self.record.begin()
        self.record.metrics({"made_up": call.result}, step=0)

class Broken(Integration):
    def install(self, patch, record):
        raise RuntimeError("broken on purpose")

class TooNew(Integration):
    requires = "made_up>=99"

    def install(self, patch, record):
        raise AssertionError("must not be called")
"""


@pytest.mark.parametrize(
    ("kind", "state", "reason"),
    [
        ("Good", "active", ""),
        ("Broken", "failed", "broken on purpose"),
        ("TooNew", "unsupported", "needs made_up>=99, found 1.0"),
    ],
)
def test_third_party_integration(kind: str, state: str, reason: str, programs: Programs) -> None:
    """A package registers by entry point alone. One that fails, or does not support the version, leaves the import whole."""
    programs.script("__version__ = '1.0'\ndef train(): return 0.25\n", "made_up.py")
    programs.script(THIRD_PARTY, "made_up_looptap.py")
    info = programs.folder / "made_up_looptap-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up-looptap\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[looptap.integrations]\nmade_up = made_up_looptap:{kind}\n")
    done = programs.python(
        """
        import looptap
        looptap.autolog(quiet=True)
        import made_up
        print(made_up.train())
        entry = [item for item in looptap.status().integrations if item.name == "made_up"][0]
        print(entry.state, "|", entry.reason)
        """,
        LOOPTAP_STRICT="0",
    )
    assert done.returncode == 0, done.stderr
    value, status = done.stdout.splitlines()
    assert value == "0.25"
    assert re.match(rf"{state} \| .*{re.escape(reason)}", status), status
    if kind == "Good":
        assert programs.record()["metrics"]["made_up"]["last"] == 0.25


def test_stop_restores_torch(programs: Programs) -> None:
    """After stop() torch has its own functions back, and autolog() again installs them once, not twice."""
    done = programs.python(
        """
        import torch, looptap
        names = [(torch.autograd, "backward"), (torch, "save"), (torch.utils.data.DataLoader, "__iter__"),
                 (torch.optim.Optimizer, "__init__"), (torch.amp.GradScaler, "scale")]
        before = [vars(owner)[name] for owner, name in names]
        for _ in range(3):
            looptap.autolog(quiet=True)
            assert any(vars(owner)[name] is not old for (owner, name), old in zip(names, before))
            assert not hasattr(torch.autograd.backward.__wrapped__, "__wrapped__")
            looptap.autolog(quiet=True)
            assert not hasattr(torch.autograd.backward.__wrapped__, "__wrapped__")
            looptap.stop()
            assert all(vars(owner)[name] is old for (owner, name), old in zip(names, before))
        print("restored")
        """
    )
    assert done.stdout == "restored\n", done.stderr


def test_disable(programs: Programs) -> None:
    """An integration named in the setting 'disable' stays away."""
    done = programs.python(
        """
        import torch, looptap
        looptap.autolog(quiet=True, disable="torch")
        assert not hasattr(torch.autograd.backward, "__wrapped__")
        print([(item.state, item.reason) for item in looptap.status().integrations if item.name == "torch"])
        """
    )
    assert "disabled" in done.stdout, done.stderr


def test_versions() -> None:
    """Local builds count as their release; an unknown version gets the benefit of the doubt."""
    assert supported("torch>=2.2", "2.13.0+cpu")
    assert not supported("torch>=2.2", "1.13.1")
    assert supported("torch>=2.2", "2.14.0a0+git123")
    assert supported("torch>=2.2", None)
    assert supported("", "anything")
    assert supported("torch>=2.2.0", "2.2")
    assert supported("torch>=2.9", "2.10.0")
    assert supported("torch>=2.2", "2.3.0rc1")
    assert not supported("torch>=2.2,<2.5", "2.6.0")


def test_every_entry_point_of_ours_loads() -> None:
    """What pyproject.toml promises exists, and says what it captures."""
    pytest.importorskip("torch")
    registry = Registry(Recorder(lambda: None, Redactor()))
    registry.activate()
    registry.deactivate()
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    group = text.partition('[project.entry-points."looptap.integrations"]')[2].partition("\n[")[0]
    names = re.findall(r"^\"?([\w.]+)\"? = \"looptap_integrations\.", group, re.M)
    assert "torch" in names
    assert set(names) <= set(registry.entries)
    for name in names:
        assert registry.entries[name].load().captures, name
