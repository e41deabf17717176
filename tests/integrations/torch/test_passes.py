"""Passes over data, told with plain objects for loaders and iterators."""

from __future__ import annotations

from looptap_integrations.torch.passes import Passes


class Thing:
    pass


def test_each_loader_counts_its_own_passes() -> None:
    """The epoch is that of the loader whose batch came last."""
    passes, train, other = Passes(), Thing(), Thing()
    epochs = []
    for turn in range(3):
        for loader in (train, other) if turn else (train,):
            iterator = Thing()
            passes.begin(loader, iterator, float(turn))
            passes.fed((iterator,))
            assert passes.feeding is not None
            epochs.append(passes.feeding.epoch)
    assert epochs == [0, 1, 0, 2, 1]


def test_iterator_that_is_used_again_is_a_new_pass() -> None:
    """Persistent workers hand out the same iterator for every pass."""
    passes, loader, iterator = Passes(), Thing(), Thing()
    for epoch in range(3):
        passes.begin(loader, iterator, 10.0 + epoch)
        passes.fed((iterator,))
        assert passes.feeding is not None
        assert (passes.feeding.epoch, passes.feeding.started) == (epoch, 10.0 + epoch)


def test_loader_lives_as_long_as_its_iteration() -> None:
    """``for x in DataLoader(…)``: we know the loader while it iterates, and let go of it then."""
    passes, iterator = Passes(), Thing()
    passes.begin(Thing(), iterator, 0.0)
    passes.fed((iterator,))
    assert passes.feeding is not None
    assert isinstance(passes.feeding.loader, Thing)
    del iterator
    assert passes.feeding.loader is None


def test_iterator_of_nobody_feeds_nothing() -> None:
    """An iterator that was made before us has no pass."""
    passes = Passes()
    passes.fed((Thing(),))
    assert passes.feeding is None
