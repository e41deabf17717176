"""What a training left for serving to be compared with."""

from __future__ import annotations

from looptap.serving.drift import Reference
from looptap.settings import Settings


def reference(store: str, fingerprints: tuple[str, ...], settings: Settings) -> Reference | None:
    """Of the run that wrote the file with this SHA-256, or these weights, as the store has it; None where there is none. Raises
    OSError and ValueError where the store cannot be asked."""
    from looptap_collector.opening import open_to_read
    from looptap_collector.serving.origins import origin_of, reference_of

    backend = open_to_read(store, settings)
    try:
        origin = origin_of(backend, *fingerprints)
        found = None if origin is None else reference_of(backend, None, origin)
        if origin is None or found is None:
            return None
        return Reference(origin.run, origin.name, found.window.split or "", found.window.predictions)
    finally:
        backend.close()
