"""Whole programs: what they were fed with is in the store, and can be compared."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

import looptap
from programs import Programs, assert_conserved

TRAINING = """
    import os, sys
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset, random_split, TensorDataset
    import looptap

    looptap.autolog()

    class Digits(Dataset):
        def __init__(self, root, train, transform=None):
            self.root, self.train, self.transform = root, train, transform
            self.names = sorted(os.listdir(root))

        def __len__(self):
            return len(self.names)

        def __getitem__(self, index):
            return torch.full((3,), float(index))

    class Scale:
        def __init__(self, factor):
            self.factor = factor

    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    rows = TensorDataset(torch.arange(30.0).reshape(10, 3))
    held_out, _ = random_split(rows, [4, 6], torch.Generator().manual_seed(int(sys.argv[1])))
    for epoch in range(2):
        for x in DataLoader(Digits("digits", True, Scale(2)), batch_size=4):
            model(x).sum().backward()
            optimizer.step()
        with torch.no_grad():
            for (x,) in DataLoader(held_out, batch_size=2):
                model(x)
    looptap.log_dataset("extra.csv", name="weights of classes", role="extra")
    looptap.log_dataset("nowhere.csv", role="extra")
    looptap.log_dataset(DataLoader(held_out), name="again", role="test")
"""


@pytest.fixture
def digits(programs: Programs) -> Path:
    folder = programs.folder / "digits"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.png").write_text(str(number))
    (programs.folder / "extra.csv").write_text("a,b\n1,2\n")
    return folder


def test_two_trainings(programs: Programs, digits: Path) -> None:
    """The same data twice is the same; with one file changed it is another one, and only it."""
    for seed in ("1", "1"):
        done = programs.python(TRAINING, seed)
        assert done.returncode == 0, done.stderr
    first, second = (looptap.get_run(run["id"]) for run in programs.runs()[::-1])
    table = first.datasets.set_index(["role", "name"])
    assert list(table.index) == [
        ("extra", "nowhere.csv"),
        ("extra", "weights of classes"),
        ("test", "again"),
        ("train", "Digits"),
        ("validation", "TensorDataset"),
    ]
    told = table.loc["train", "Digits"]
    assert (told["class_name"], told["length"], told["split"]) == ("__main__.Digits", 12, "train")
    assert (told["root"], told["transform"]) == (str(digits), "Scale(factor=2)")
    assert (told["covers"], told["missing"]) == ("names, sizes, mtimes", None)
    assert told["details"] == {"files": 12, "size_bytes": 14}
    assert table.loc["extra", "nowhere.csv"]["missing"] == "its files are not there"
    assert table.loc["test", "again"]["fingerprint"] == table.loc["validation", "TensorDataset"]["fingerprint"]
    (artifact,) = first.artifacts
    assert (artifact.role, artifact.kind) == ("input", "dataset")
    assert artifact.digest == table.loc["extra", "weights of classes"]["fingerprint"]
    assert set(first.compare_data(second)["outcome"]) == {"same", "unknown"}
    assert set(first.runs_with_same_data("train")["run"]) == {second.id}

    (digits / "7.png").write_text("changed")
    assert programs.python(TRAINING, "1").returncode == 0
    third = looptap.get_run("latest")
    outcomes = third.compare_data(first).set_index("name")["outcome"]
    assert outcomes["Digits"] == "different"
    assert outcomes["TensorDataset"] == outcomes["weights of classes"] == "same"
    assert list(third.runs_with_same_data("train")["run"]) == []
    assert set(third.runs_with_same_data("validation")["run"]) == {first.id, second.id}
    assert programs.python(TRAINING, "2").returncode == 0
    outcomes = looptap.get_run("latest").compare_data(third.name).set_index("name")["outcome"]
    assert (outcomes["Digits"], outcomes["TensorDataset"]) == ("same", "different")
    assert_conserved(programs.record())
    shown = programs.looptap("show").stdout
    assert str(told["covers"]) in shown
    compared = programs.looptap("dataset", "compare", first.name).stdout
    assert "different" in compared


def test_content_on_request(programs: Programs, digits: Path) -> None:
    """By a setting the content of every file is read, in the background."""
    for _ in range(2):
        assert programs.python(TRAINING, "1", LOOPTAP_DATASET_CONTENT="1").returncode == 0
        for path in digits.iterdir():
            path.touch()
    one, other = programs.runs()
    table = looptap.get_run(one["id"]).datasets.set_index("name")
    assert table.loc["Digits"]["covers"] == "names, content"
    assert set(looptap.get_run(one["id"]).compare_data(other["id"])["outcome"]) == {"same", "unknown"}


def test_killed_before_the_manifest_is_made(programs: Programs, digits: Path) -> None:
    """The data set is there, without a fingerprint: not a wrong one."""
    program = programs.start(
        """
        import os, sys, time
        import torch
        from looptap import data
        import looptap
        from torch.utils.data import DataLoader, Dataset

        def slow(*words, **more):
            os.write(1, b"looking\\n")
            time.sleep(600)

        data.of_files = slow
        looptap.autolog()

        class Digits(Dataset):
            root = "digits"
            def __len__(self):
                return 8
            def __getitem__(self, index):
                return torch.ones(3)

        model = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step, x in enumerate(DataLoader(Digits(), batch_size=2)):
            model(x).sum().backward()
            optimizer.step()
        os.write(1, b"trained\\n")
        time.sleep(600)
        """
    )
    assert program.stdout is not None
    said = {program.stdout.readline().strip() for _ in range(2)}
    assert said == {"looking", "trained"}, "the training does not wait for it"
    program.send_signal(signal.SIGKILL)
    program.communicate()
    record = programs.record()
    (told,) = record["datasets"]
    assert (told["name"], told["length"], told["fingerprint"], told["missing"]) == ("Digits", 8, None, "not made yet")
    assert_conserved(record)


def test_program_that_only_reads(programs: Programs, digits: Path) -> None:
    """Looking at data is no run."""
    done = programs.python(
        """
        import torch
        import looptap
        from torch.utils.data import DataLoader, TensorDataset
        looptap.autolog()
        for _ in DataLoader(TensorDataset(torch.ones(8, 3))):
            pass
        """
    )
    assert done.returncode == 0, done.stderr
    assert programs.looptap("runs", "--json").returncode != 0


def test_workers_stay_silent(programs: Programs) -> None:
    """A data set that says something of itself in a worker says it to nobody; the training is told as ever."""
    done = programs.python(
        """
        import torch
        import looptap
        from torch.utils.data import DataLoader, Dataset
        looptap.autolog()

        class Chatty(Dataset):
            def __init__(self):
                self.rows = torch.arange(24.0).reshape(8, 3)
            def __len__(self):
                return len(self.rows)
            def __getitem__(self, index):
                looptap.log_dataset(torch.ones(3), name="of a worker")
                return self.rows[index]

        model = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            for x in DataLoader(Chatty(), batch_size=2, num_workers=2):
                model(x).sum().backward()
                optimizer.step()
        """
    )
    assert done.returncode == 0, done.stderr
    assert [(item["name"], item["covers"]) for item in programs.record()["datasets"]] == [("Chatty", "sampled content")]
    assert len(programs.runs()) == 1


def test_end_does_not_wait_long(programs: Programs, digits: Path) -> None:
    """A program that ends before the manifest is made has that said of it."""
    began = time.monotonic()
    done = programs.python(
        """
        import time
        from looptap import data
        import looptap
        data.of_files = lambda *words, **more: time.sleep(600)
        looptap.autolog(exit_timeout=1)
        looptap.log_dataset("digits")
        """
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 60
    (told,) = programs.record()["datasets"]
    assert told["missing"] == "the run ended before it was made"
