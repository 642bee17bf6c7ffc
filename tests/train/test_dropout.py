"""What is dropped is a function of (seed, step, place in the batch), and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from noria.train.dropout import Dropout, mixed, name_layers, now

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _over() -> Iterator[None]:
    yield
    now.place = None


def dropped(layer: Dropout, inputs: Tensor, key: int, first: int = 0) -> Tensor:
    now.begin(key, CPU)
    now.first(first)
    found: Tensor = layer(inputs)
    return found


def test_the_part_that_is_dropped_and_what_is_left_for_it() -> None:
    ones = torch.ones(200, 500)
    for p in (0.1, 0.5, 0.9):
        out = dropped(Dropout(p), ones, 7)
        assert (out == 0).float().mean() == pytest.approx(p, abs=0.005)
        assert out.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])
        by_example, by_feature = (out == 0).float().mean(1), (out == 0).float().mean(0)
        assert by_example.std() == pytest.approx((p * (1 - p) / 500) ** 0.5, rel=0.2)
        assert by_feature.std() == pytest.approx((p * (1 - p) / 200) ** 0.5, rel=0.2)


def test_other_steps_layers_and_examples_lose_other_features() -> None:
    model, ones = nn.Sequential(Dropout(), nn.ReLU(), Dropout()), torch.ones(8, 4000)
    assert name_layers(model)
    first, _, second = model
    assert isinstance(first, Dropout) and isinstance(second, Dropout)
    found = [dropped(first, ones, 7), dropped(first, ones, 8), dropped(second, ones, 7)]
    rows = torch.cat(found) == 0
    alike = (rows[:, None] == rows[None]).float().mean(2)
    assert (alike - torch.eye(len(rows))).max() < 0.55


def test_a_part_of_a_batch_loses_what_the_whole_one_does() -> None:
    layer, inputs = Dropout(0.3), torch.rand(10, 3, 5)
    whole = dropped(layer, inputs, 7)
    parts = [dropped(layer, inputs[low : low + 4], 7, low) for low in (0, 4, 8)]
    assert torch.equal(whole, torch.cat(parts))
    layer.among = (1, 2)
    flat = Dropout(0.3)
    cut = dropped(layer, inputs.flatten(1)[:, 7:14], 7)
    assert torch.equal(cut, dropped(flat, inputs.flatten(1)[:, :14], 7)[:, 7:])


def test_out_of_a_trainer_it_is_torchs_and_in_evaluation_nothing_is_dropped() -> None:
    layer, ones = Dropout(0.5), torch.ones(100, 100)
    torch.manual_seed(1)
    expected = nn.Dropout(0.5)(ones)
    torch.manual_seed(1)
    assert torch.equal(layer(ones), expected)
    assert torch.equal(layer.eval()(ones), ones)


def test_mixing_loses_nothing() -> None:
    numbers = torch.arange(-(1 << 20), 1 << 20, dtype=torch.int32)
    assert len(mixed(numbers).unique()) == len(numbers)
    assert mixed(torch.tensor([0, 1], dtype=torch.int32)).tolist() == [0, 1753845952]
