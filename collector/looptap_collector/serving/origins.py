"""Which training made a model that is served, with nothing declared: found by the SHA-256 of its weights file, or by the
fingerprint of its weights."""

from __future__ import annotations

from collections.abc import Iterator

from looptap_collector.backend import Backend, Edge, RunWindow, WindowQuery
from looptap_collector.bounds import is_sha256
from looptap_collector.datasets import version_of
from looptap_collector.serving.shapes import Data, Origin

#: What an evaluation saw of the model is the better reference, the less the model has seen of the data. ``predict`` may be any.
SPLITS = ("validation", "test", "predict", "train")
_MOST_WINDOWS = 1_000


def origin_of(backend: Backend, *fingerprints: str | None) -> Origin | None:
    """The training that first wrote a file with one of these digests, or fingerprints of weights: with the first that any run is
    known to have written. With its data and its code; None where no run is known."""
    return next(filter(None, (_origin_of(backend, one) for one in fingerprints if is_sha256(one))), None)


def _origin_of(backend: Backend, digest: str) -> Origin | None:
    written = list(_writers(backend, digest))
    for edge in reversed(written):
        run = backend.run(edge.run)
        if run is not None and run.kind != "serving":
            break
    else:
        return None
    code = run.environment
    data = [
        Data(use.dataset.role, use.dataset.name, use.dataset.fingerprint, version_of(use.dataset))
        for use in backend.datasets(runs=[run.run])
    ]
    return Origin(
        run=run.run,
        name=run.name,
        experiment=run.experiment,
        status=run.status,
        file=edge.artifact.name,
        step=edge.artifact.step,
        time_ns=edge.artifact.time_ns,
        git_commit=code.git_commit if code else None,
        git_dirty=code.git_dirty if code else None,
        data=data,
    )


def _writers(backend: Backend, digest: str) -> Iterator[Edge]:
    """The latest first."""
    before: int | None = None
    while some := backend.edges(digests=[digest], role="output", before=before):
        yield from some
        before = some[-1].id


def reference_of(backend: Backend, version: str | None, origin: Origin | None) -> RunWindow | None:
    """What the last evaluation of the training saw of the model: of validation data where there is any, else of test data, else of
    data that nobody knows, else of training data. Of a version without a known training: of an evaluation that names the
    version."""
    if origin is not None:
        query = WindowQuery(runs=(origin.run,), reference=True, limit=_MOST_WINDOWS)
    elif version is not None:
        query = WindowQuery(versions=(version,), reference=True, limit=_MOST_WINDOWS)
    else:
        return None
    found = backend.windows(query)
    known = [one for one in found if one.window.split in SPLITS and (one.window.predictions or one.window.features)]
    # Stable, so that of each split the latest stays first.
    return min(known, key=lambda one: SPLITS.index(one.window.split or ""), default=None)
