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
            passes.fed(iterator)
            assert passes.feeding is not None
            passes.feeding.train()
            epochs.append(passes.feeding.epoch)
    assert epochs == [0, 1, 0, 2, 1]


def test_iterator_that_is_used_again_is_a_new_pass() -> None:
    """Persistent workers hand out the same iterator for every pass."""
    passes, loader, iterator = Passes(), Thing(), Thing()
    for epoch in range(3):
        passes.begin(loader, iterator, 10.0 + epoch)
        passes.fed(iterator)
        assert passes.feeding is not None
        passes.feeding.train()
        assert (passes.feeding.epoch, passes.feeding.started) == (epoch, 10.0 + epoch)


def test_a_pass_without_a_step_is_no_epoch() -> None:
    """A look at a batch before, an evaluation in between; a step may come when the iteration is over and gone."""
    passes, train = Passes(), Loader(Thing())
    epochs = []
    for is_trained in (False, True, False, False, True, True):
        iterator = Thing()
        passes.begin(train, iterator, 0.0)
        passes.fed(iterator)
        one = passes.feeding
        assert one is not None
        assert one.epoch == -1
        del iterator
        if is_trained:
            one.train()
            one.train()
            epochs.append(one.epoch)
    assert epochs == [0, 1, 2]
    data = train.dataset
    del train
    assert epoch_of(passes, Loader(data)) == 3


def test_loader_lives_as_long_as_its_iteration() -> None:
    """``for x in DataLoader(…)``: we know the loader while it iterates, and let go of it then."""
    passes, iterator = Passes(), Thing()
    passes.begin(Thing(), iterator, 0.0)
    passes.fed(iterator)
    assert passes.feeding is not None
    assert isinstance(passes.feeding.loader, Thing)
    del iterator
    assert passes.feeding.loader is None


def test_iterator_of_nobody_feeds_nothing() -> None:
    """An iterator that was made before us has no pass."""
    passes = Passes()
    passes.fed(Thing())
    assert passes.feeding is None


class Loader:
    def __init__(self, dataset: object, batch_size: int = 8) -> None:
        self.dataset = dataset
        self.batch_size = batch_size


def epoch_of(passes: Passes, loader: Loader) -> int:
    iterator = Thing()
    passes.begin(loader, iterator, 0.0)
    passes.fed(iterator)
    assert passes.feeding is not None
    passes.feeding.train()
    return passes.feeding.epoch


def test_a_new_loader_for_every_pass_goes_on_counting() -> None:
    """It takes the place of one that is gone if it reads the same dataset in the same way; any other begins at 0."""
    passes, train, test = Passes(), Thing(), Thing()
    found = []
    for _ in range(3):
        found.append(epoch_of(passes, Loader(train)))
        found.append(epoch_of(passes, Loader(test)))
    assert found == [0, 0, 1, 1, 2, 2]
    assert epoch_of(passes, Loader(train, batch_size=4)) == 0
    held = Loader(test)
    assert epoch_of(passes, held) == 3
    assert epoch_of(passes, Loader(test)) == 0
    assert epoch_of(passes, held) == 4


def test_a_dataset_in_the_place_of_another_one_is_another_one() -> None:
    """Ids are used again; and a list cannot be watched, so each loader over one begins at 0."""
    passes = Passes()
    assert [epoch_of(passes, Loader(Thing())) for _ in range(20)] == [0] * 20
    numbers = [1, 2, 3]
    assert [epoch_of(passes, Loader(numbers)) for _ in range(3)] == [0, 0, 0]


def test_data_that_is_gone_is_forgotten() -> None:
    """A search that makes new data for every trial keeps nothing of the ones before."""
    passes = Passes()
    for _ in range(300):
        data = Thing()
        epoch_of(passes, Loader(data))
    del data
    assert len(passes._left) == 0
    data = Thing()
    assert [epoch_of(passes, Loader(data)) for _ in range(3)] == [0, 1, 2]
