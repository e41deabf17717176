"""Served versions are traced to the training that wrote them."""

from __future__ import annotations

from collector.recorded import START_NS, Recording
from collector.serving.serving_runs import NEXT, VERSION, Serving, classes, trained, window
from looptap.events import Artifact
from looptap_collector.backend import Backend
from looptap_collector.serving.origins import origin_of, reference_of


def test_by_the_digest_of_the_file(backend: Backend) -> None:
    """Run, step, code and data, without anything that was declared."""
    trained(backend, "other", NEXT)
    run = trained(backend)
    found = origin_of(backend, VERSION)
    assert found is not None
    assert (found.run, found.name, found.file, found.step) == (run.run, "calm-otter-12", "model.pt", 500)
    assert (found.git_commit, found.git_dirty) == ("0123456789abcdef0123456789abcdef01234567", True)
    assert [(data.role, data.name, data.fingerprint) for data in found.data] == [("train", "digits", "ef" * 32)]
    assert found.data[0].version is not None


def test_by_its_weights(backend: Backend) -> None:
    """Of a file that nobody knows; what the file leads to comes first."""
    run = trained(backend, weights="ef" * 32)
    other = trained(backend, "other", NEXT)
    for fingerprints in (("00" * 32, "ef" * 32), (None, "ef" * 32), ("v3", "ef" * 32)):
        found = origin_of(backend, *fingerprints)
        assert found is not None
        assert (found.run, found.file) == (run.run, "model.pt")
    found = origin_of(backend, NEXT, "ef" * 32)
    assert found is not None
    assert found.run == other.run
    assert origin_of(backend, "00" * 32, "01" * 32) is None


def test_who_wrote_it_first(backend: Backend) -> None:
    """Is where it comes from: not a run that wrote the same file again, one that read it, or a server that saved what it serves."""
    served = Serving(backend, "server")
    served.artifact("model.pt", digest=VERSION)
    run = trained(backend)
    again = Recording(backend, "again", start_ns=START_NS + 1)
    again.artifact("copy.pt", digest=VERSION)
    again.deliver(Artifact("model.pt", 1, 1, digest=VERSION, role="input"))
    found = origin_of(backend, VERSION)
    assert found is not None
    assert found.run == run.run


def test_what_nobody_knows(backend: Backend) -> None:
    """A file that no run wrote, a name that the program gave, and no version at all."""
    reader = Recording(backend, "reader")
    reader.deliver(Artifact("model.pt", 1, 1, digest=VERSION, role="input"))
    assert origin_of(backend, VERSION) is None
    assert origin_of(backend, "v3") is None
    assert origin_of(backend, None) is None


def test_the_reference(backend: Backend) -> None:
    """The last evaluation on validation data; test data where there is none; nothing without predictions."""
    trained(backend)
    origin = origin_of(backend, VERSION)
    assert origin is not None
    found = reference_of(backend, VERSION, origin)
    assert found is not None
    assert (found.window.split, found.window.time_ns) == ("validation", window(90_010).time_ns)

    other = Recording(backend, "other", start_ns=START_NS + 1)
    other.artifact("model.pt", digest=NEXT)
    origin = origin_of(backend, NEXT)
    assert reference_of(backend, NEXT, origin) is None
    other.deliver(window(5, split="validation", predictions={}))
    assert reference_of(backend, NEXT, origin) is None
    other.deliver(window(9, split="train"), window(99, split="test"), window(7, split="mine"))
    found = reference_of(backend, NEXT, origin)
    assert found is not None
    assert found.window.split == "test"


def test_the_reference_of_a_version_that_the_program_names(backend: Backend) -> None:
    """An evaluation that names it, too."""
    assert reference_of(backend, "v3", None) is None
    assert reference_of(backend, None, None) is None
    told = window(5, version="v3", split="test", predictions={"class": classes(a=1).encode()})
    Recording(backend, "evaluation").deliver(told)
    found = reference_of(backend, "v3", None)
    assert found is not None
    assert found.window == told
