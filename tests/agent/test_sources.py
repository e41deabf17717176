"""What a function said of the data that it gave: by the object, by its content, and no longer than it lives."""

from __future__ import annotations

import gc

from looptap.fingerprints import Files, Fingerprint, Part
from looptap.sources import Source, Sources


class Thing:
    pass


def test_by_the_object() -> None:
    """Another one in its place in memory is another one; a number has none."""
    sources, thing, source = Sources(), Thing(), Source("digits", "train")
    sources.remember(thing, source)
    sources.remember(3, source)
    assert sources.of(thing) is source
    assert sources.of(Thing()) is sources.of(3) is None
    place = id(thing)
    del thing
    gc.collect()
    assert place not in sources._by_object


def test_by_content() -> None:
    """The first of the parts that is known; files have no content yet."""
    sources, train = Sources(), Source("digits", "train")
    parts: list[Part] = [Files("/data"), Fingerprint("a" * 64, "content")]
    sources.remember_content(parts, train)
    assert sources.of_content([Fingerprint("b" * 64, "content"), *parts]) is train
    assert sources.of_content([Files("/data"), Fingerprint("c" * 64, "content")]) is None
