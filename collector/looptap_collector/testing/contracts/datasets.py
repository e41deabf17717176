"""What runs were fed with is kept as it was told last, and found by run, name, role and fingerprint."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from looptap.events import Dataset
from looptap_collector.backend import Backend, DatasetUse
from looptap_collector.testing.batches import Journal, started, write

PRINT, OTHER = "ab" * 32, "cd" * 32


def identified(name: str = "digits", fingerprint: str = PRINT, **more: Any) -> Dataset:
    return Dataset(
        **{"name": name, "time_ns": 1, "fingerprint": fingerprint, "algorithm": "sha256", "covers": "content", **more}
    )


class DatasetContract:
    def test_datasets_come_back_as_told(self, backend: Backend) -> None:
        """Every field, of every type; 1 and 1.0 and true stay what they are."""
        full = identified(
            role="validation",
            kind="torch",
            class_name="mine.Digits",
            length=60_000,
            split="test",
            root="/data/ü",
            transform="Resize(size=32)",
            schema={"x": [1, 1.0, True, None, float("inf"), 2**70, "a\0b"]},
            details={"files": 7, "nested": {"a": [{"b": -0.0}]}},
        )
        bare = Dataset("bare", -5, missing="not made yet")
        write(backend, Journal().batch(started(), full, bare))
        found = backend.datasets(runs=["r1"])
        assert list(found) == [DatasetUse("r1", full), DatasetUse("r1", bare)]
        told = msgspec.structs.asdict(full)
        assert json.dumps(msgspec.structs.asdict(found[0].dataset)) == json.dumps(told)

    def test_the_last_of_a_name_and_role_counts(self, backend: Backend) -> None:
        """A fingerprint follows later, in the same batch or in another one; another role is another use."""
        journal = Journal()
        write(backend, journal.batch(started(), Dataset("a", 1), Dataset("b", 1), identified("b", time_ns=2)))
        write(backend, journal.batch(identified("a", OTHER, time_ns=3), identified("a", role="test", time_ns=4)))
        found = [(use.dataset.name, use.dataset.role, use.dataset.fingerprint) for use in backend.datasets()]
        assert found == [("a", "test", PRINT), ("a", "train", OTHER), ("b", "train", PRINT)]

    def test_datasets_are_found(self, backend: Backend) -> None:
        """By run, name, role and fingerprint, alone and together, the latest first; equal ones by run, role and name."""
        for number, fingerprint in enumerate([PRINT, OTHER, PRINT]):
            run = f"r{number}"
            records = [
                identified("a", fingerprint, time_ns=number),
                identified("a", OTHER, role="test", time_ns=9),
                identified("b", fingerprint, time_ns=number),
            ]
            write(backend, Journal(f"j{number}", run).batch(started(run), *records))

        def uses(**how: Any) -> list[str]:
            return [f"{use.run} {use.dataset.role} {use.dataset.name}" for use in backend.datasets(**how)]

        latest = ["r0 test a", "r1 test a", "r2 test a", "r2 train a", "r2 train b", "r1 train a", "r1 train b"]
        assert uses() == [*latest, "r0 train a", "r0 train b"]
        assert uses(limit=4) == latest[:4]
        assert uses(runs=["r1"]) == ["r1 test a", "r1 train a", "r1 train b"]
        assert uses(runs=["r0", "r2", "r2"], name="b") == ["r2 train b", "r0 train b"]
        assert uses(role="test", fingerprints=[PRINT]) == []
        assert uses(fingerprints=[PRINT], role="train", name="a") == ["r2 train a", "r0 train a"]
        assert uses(fingerprints=[PRINT, OTHER], runs=["r1"]) == ["r1 test a", "r1 train a", "r1 train b"]
        assert uses(runs=[]) == uses(fingerprints=[]) == uses(name="A") == uses(runs=["nothing"]) == []
        many = [f"x{number}" for number in range(1_200)]
        assert uses(runs=[*many, "r1"], fingerprints=[*many, OTHER], name="b") == ["r1 train b"]

    def test_datasets_that_differ_in_little(self, backend: Backend) -> None:
        """Case, accents and blanks at the end count in names, roles and fingerprints."""
        names = ["a", "A", "a ", "á", "a\u0301", "🦦", "%", "'; DROP TABLE run; --"]
        write(backend, Journal().batch(started(), *(identified(name, name, role=name) for name in names)))
        for name in names:
            for how in ({"name": name}, {"role": name}, {"fingerprints": [name]}):
                assert [use.dataset.name for use in backend.datasets(**how)] == [name]
        assert [use.dataset.name for use in backend.datasets()] == sorted(names)

    def test_the_longest_dataset(self, backend: Backend) -> None:
        """What validation lets through fits."""
        name, long = "🦦" * 128, "🦦" * 16_000
        longest = identified(
            name,
            "f" * 255,
            role="🦦" * 16,
            kind="k" * 64,
            algorithm="a" * 64,
            covers="c" * 255,
            length=2**63 - 1,
            time_ns=-(2**63),
            **dict.fromkeys(("class_name", "split", "root", "transform", "missing", "schema"), long),
        )
        write(backend, Journal().batch(started(), longest))
        assert [use.dataset for use in backend.datasets(fingerprints=["f" * 255], name=name)] == [longest]

    def test_datasets_of_a_deleted_run(self, backend: Backend) -> None:
        """Are gone; those that other runs share stay, and all may come again."""
        for run in ("r1", "r2"):
            write(backend, Journal(f"j-{run}", run).batch(started(run), identified(), identified(f"of {run}", run)))
        assert backend.delete_run("r1")
        assert [use.run for use in backend.datasets(fingerprints=[PRINT])] == ["r2"]
        assert backend.datasets(runs=["r1"]) == backend.datasets(name="of r1") == []
        write(backend, Journal("j3", "r1").batch(started("r1"), identified("of r1", "r1")))
        assert len(backend.datasets()) == 3
