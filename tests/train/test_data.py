from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from noria.errors import Invalid
from noria.train.augment import Jitter
from noria.train.data import Arrays, Mapped, Prepared, Windows, batches, derived, parts, steps_per_epoch
from noria.train.stream import Stream, ahead


def numbered(size: int) -> Arrays:
    return Arrays(torch.arange(size, dtype=torch.float32), torch.arange(size))


def seen(**where: Any) -> list[list[int]]:
    return [part.targets[part.weights > 0].tolist() for part in batches(numbered(103), 10, seed=5, **where)]


def test_an_epoch_holds_every_example_once_and_the_next_one_in_another_order() -> None:
    first, second = (list(chain(*seen(epoch=epoch))) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(103))
    assert first != second
    assert seen(epoch=1) == seen(epoch=1)


@pytest.mark.parametrize("world", [2, 3, 8])
def test_ranks_cut_the_same_global_batches_and_have_equally_many(world: int) -> None:
    ranks = [seen(rank=rank, world=world) for rank in range(world)]
    assert {len(rank) for rank in ranks} == {steps_per_epoch(103, 10)}
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == seen()
    shapes = {tuple(len(part.weights) for part in batches(numbered(103), 10, rank=rank, world=world)) for rank in range(world)}
    assert len(shapes) == 1


def test_an_epoch_can_be_entered_anywhere() -> None:
    assert seen(epoch=3, start=4) == seen(epoch=3)[4:]


def test_seeds_of_neighbours_are_unrelated() -> None:
    assert len({derived(seed, epoch) for seed in range(30) for epoch in range(30)}) == 900
    assert 0 <= derived(1, "x") < 2**63


@pytest.mark.parametrize("world", [1, 2])
def test_augmentation_depends_on_seed_epoch_and_example_only(world: int) -> None:
    images = torch.rand(30, 1, 12, 12)
    arrays = Arrays(images, torch.arange(30))

    def changed(epoch: int, batch: int, world: int) -> dict[int, torch.Tensor]:
        found = [part for rank in range(world)
                 for part in batches(arrays, batch, rank=rank, world=world, seed=1, epoch=epoch, augment=Jitter())]  # fmt: skip
        pairs = [pair for part in found for pair in zip(part.targets.tolist(), part.inputs, strict=True)]
        return dict(pairs)

    one, other = changed(2, 7, 1), changed(2, 4, world)
    assert all(torch.equal(one[index], other[index]) for index in range(30))
    assert not torch.equal(one[0], changed(3, 7, 1)[0])


def test_an_augmentation_that_mixes_sees_the_same_neighbours_on_any_number_of_ranks() -> None:
    def inputs(world: int) -> list[float]:
        ranks = [list(batches(numbered(23), 8, rank=rank, world=world, seed=1, augment=Next())) for rank in range(world)]
        return [value for parts in zip(*ranks, strict=True) for part in parts
                for value in part.inputs[part.weights > 0].tolist()]  # fmt: skip

    order = list(chain(*(part.targets.tolist() for part in batches(numbered(23), 8, seed=1))))
    expected = [1000 * this + following for low in (0, 8, 16) for this, following in
                zip(order[low : low + 8], [*order[low + 1 : low + 8], order[min(low + 8, 23) - 1]], strict=True)]  # fmt: skip
    assert inputs(1) == inputs(2) == inputs(3) == inputs(4) == expected


class Next:
    """Shows which example came next."""

    draws, beyond = 0, 1

    def joint(self, inputs: torch.Tensor, targets: torch.Tensor, draws: torch.Tensor, /) -> tuple[torch.Tensor, torch.Tensor]:
        return 1000 * inputs[:-1] + inputs[1:], targets[:-1]


class Listed(torch.utils.data.Dataset[Any]):
    """A map-style dataset as others write them."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([float(number)]), number


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_of_torch_is_seen_in_the_same_order_as_arrays(workers: int) -> None:
    mapped = Mapped(Listed(), workers=workers)
    found = [part.targets.tolist() for part in batches(mapped, 5, rank=1, world=2, seed=4, epoch=2, start=1)]
    assert found == [part.targets.tolist() for part in batches(numbered(23), 5, rank=1, world=2, seed=4, epoch=2, start=1)]
    first = next(iter(batches(mapped, 5)))
    assert first.inputs.tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0]]


def test_a_dataset_that_gives_something_else_is_told_what_to_give() -> None:
    with pytest.raises(Invalid, match="hand in a `collate`"):
        next(batches(Mapped(Listed(), collate=lambda items: {"items": items}), 5))
    pairs = Mapped(Listed(), collate=lambda items: (torch.stack([item[0] for item in items]), torch.zeros(len(items))))
    assert next(batches(pairs, 5)).targets.tolist() == [0.0] * 5


class Asked:
    """Counts what each rank reads and what it loads."""

    def __init__(self) -> None:
        self.loaded: list[int] = []

    def stream(self, examples: int = 23, there: int = 100) -> Stream:
        return Stream(lambda epoch: range(100 * epoch, 100 * epoch + there), examples, self.load)

    def load(self, item: int) -> tuple[torch.Tensor, int]:
        self.loaded.append(item)
        return torch.tensor([float(item)]), item


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_stream_is_shared_among_ranks_without_overlap_and_entered_anywhere(world: int) -> None:
    asked = [Asked() for _ in range(world)]
    ranks = [list(batches(asked[rank].stream(), 5, rank=rank, world=world, seed=1, epoch=2)) for rank in range(world)]
    assert {len(rank) for rank in ranks} == {5}
    seen = [part.targets[part.weights > 0].tolist() for parts in zip(*ranks, strict=True) for part in parts]
    assert list(chain(*seen)) == list(range(200, 223))
    assert all(len(each.loaded) == sum(len(part.weights) for part in rank) for each, rank in zip(asked, ranks, strict=True))
    again = list(batches(Asked().stream(), 5, rank=world - 1, world=world, seed=1, epoch=2, start=3))
    assert [part.inputs.tolist() for part in again] == [part.inputs.tolist() for part in ranks[-1][3:]]


class Iterated(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[tuple[float, int]]:
        return ((number / 2, number) for number in range(50))


def test_an_iterable_dataset_of_torch_is_a_stream() -> None:
    found = list(batches(Stream(lambda epoch: Iterated(), 20), 8, seed=1))
    assert [part.targets.tolist() for part in found] == [list(range(8)), list(range(8, 16)), list(range(16, 20))]
    assert found[1].inputs[0] == 4.0


def test_batches_go_where_they_are_wanted() -> None:
    """The device "meta" is on every machine; what is there has a shape and no values."""
    meta = torch.device("meta")
    for data in (Mapped(Listed()), numbered(23), parts(numbered(23), 0.5, 0.5)[0]):
        part = next(batches(data, 4, augment=Next(), device=meta))
        assert {tensor.device for tensor in part} == {meta}
    assert next(batches(Prepared(numbered(23), Halved(), meta), 4)).inputs.device == meta
    assert next(batches(parts(numbered(23).to(meta), 0.5, 0.5)[0], 4)).weights.device == meta


def test_a_stream_that_is_too_short_says_how_long_it_was() -> None:
    with pytest.raises(Invalid, match="ended after 12 of 23 examples"):
        list(batches(Asked().stream(there=12), 5))


def test_mixing_works_on_streams() -> None:
    found = [part.inputs.flatten().tolist() for part in batches(Asked().stream(), 8, rank=1, world=2, augment=Next())]
    assert found == [[4005, 5006, 6007, 7007], [12013, 13014, 14015, 15015], [20021, 21022, 22022, 22022]]


def test_what_is_fetched_ahead_is_the_same_and_in_order() -> None:
    assert list(ahead(iter(range(50)), 3)) == list(ahead(range(50), 0)) == list(range(50))
    plain, fetched = (list(chain(*(part.targets.tolist() for part in parts)))
                      for parts in (batches(numbered(40), 7, seed=2), ahead(batches(numbered(40), 7, seed=2))))  # fmt: skip
    assert plain == fetched


def test_an_error_ahead_is_raised_where_it_would_have_been() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise Invalid("The picture is damaged.")

    reader = ahead(items(), 4)
    assert next(reader) == 1
    with pytest.raises(Invalid, match="damaged"):
        next(reader)


def test_fetching_stops_with_whoever_asks() -> None:
    given: list[int] = []
    closed: list[str] = []

    def items() -> Iterator[int]:
        try:
            for number in range(1000):
                given.append(number)
                yield number
        finally:
            closed.append(threading.current_thread().name)

    reader = ahead(items(), 2)
    assert next(reader) == 0
    reader.close()
    assert len(given) <= 6
    assert closed == ["noria-ahead"]
    assert "noria-ahead" not in [thread.name for thread in threading.enumerate()]


def test_parts_hold_every_example_once_in_shares() -> None:
    train, validation = parts(numbered(101), 0.8, 0.2, seed=3)
    numbers = [part.gather(torch.arange(len(part)))[1].tolist() for part in (train, validation)]
    assert [len(part) for part in numbers] == [81, 20]
    assert sorted(chain(*numbers)) == list(range(101))
    assert numbers[0] != sorted(numbers[0])
    with pytest.raises(Invalid, match="do not sum up to 1"):
        parts(numbered(10), 0.8, 0.1)
    held = parts(Mapped(Listed(), workers=1), 0.5, 0.5)[1]
    assert [part.targets.tolist() for part in batches(held, 4)] == [part.tolist() for part in held.numbers.split(4)]


def test_windows_are_pieces_with_what_comes_next() -> None:
    windows = Windows(torch.arange(10), 3, horizon=2, offset=3, stride=2)
    inputs, targets = windows.gather(torch.arange(len(windows)))
    assert inputs.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert targets.tolist() == [[3, 4], [5, 6], [7, 8]]
    with pytest.raises(Invalid, match="no window of 8"):
        Windows(torch.arange(10), 8, horizon=3, offset=8)


def test_a_preparation_is_done_to_whatever_is_asked_for() -> None:
    prepared = Prepared(numbered(12), Halved())
    assert [part.inputs.tolist() for part in batches(prepared, 4)] == [[0, 0.5, 1, 1.5], [2, 2.5, 3, 3.5], [4, 4.5, 5, 5.5]]
    with pytest.raises(Invalid, match="must not depend on chance"):
        Prepared(numbered(12), Jitter())


class Halved:
    draws = 0

    def __call__(self, inputs: torch.Tensor, draws: torch.Tensor, /) -> torch.Tensor:
        return inputs / 2
