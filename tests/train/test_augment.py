from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from noria.errors import Invalid, Unsupported
from noria.train.augment import (
    SPACES,
    Both,
    Chain,
    Colours,
    Crop,
    Flip,
    Hide,
    Jitter,
    Light,
    Mixup,
    Normalise,
    Resize,
    Rotate,
    Scale,
)
from noria.train.data import Arrays, Augment, Joint, batches
from noria.train.steps import UNASKED
from tests.conftest import require

CHANGES = [Flip(), Crop(24, pad=2), Rotate(), Scale(), Resize(16, 20), Normalise(), Light(), *map(Colours, SPACES),
           Chain(Flip(), Rotate(), Crop(20), Light(), Normalise(), Mixup(3))]  # fmt: skip
WITH_KORNIA = (Rotate, Scale, Normalise, Light, Colours, Chain)


def kornia() -> None:
    require("kornia", find_spec("kornia") is not None, "pip install 'noria[augment]'")


def test_jitter_of_nothing_changes_nothing_and_a_shift_moves_by_whole_pixels() -> None:
    images = torch.rand(4, 2, 9, 9)
    still = Jitter(degrees=0, pixels=0, scale=0)(images, torch.rand(4, 4))
    torch.testing.assert_close(still, images)
    draws = torch.tensor([[0.5, 0.5, 1.0, 0.5]]).repeat(4, 1)
    moved = Jitter(degrees=0, pixels=2, scale=0)(images, draws)
    torch.testing.assert_close(moved[..., :-2], images[..., 2:])
    assert moved[..., -2:].abs().max() == 0


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
@pytest.mark.parametrize("shape", [(37, 3, 31, 29), (11, 3, 3, 26, 26)], ids=["pictures", "clips"])
def test_an_example_looks_the_same_on_any_number_of_ranks_and_after_a_restart(
    change: Augment | Joint, shape: tuple[int, ...]
) -> None:
    if isinstance(change, WITH_KORNIA):
        kornia()
    data = Arrays(torch.rand(shape, generator=torch.Generator().manual_seed(1)), torch.arange(shape[0]) % 3)

    def seen(world: int, start: int = 0, epoch: int = 3) -> list[torch.Tensor]:
        ranks = [
            batches(data, 8, rank=rank, world=world, seed=5, epoch=epoch, start=start, augment=change) for rank in range(world)
        ]
        return [torch.cat([part.inputs[part.weights > 0] for part in parts]) for parts in zip(*ranks, strict=True)]

    one = seen(1)
    for other, expected in ((seen(2), one), (seen(4), one), (seen(1, start=1), one[1:])):
        assert len(other) == len(expected)
        assert all(torch.equal(*pair) for pair in zip(other, expected, strict=True))
    if change.draws:
        assert not torch.equal(one[0], seen(1, epoch=4)[0])


def test_flips_are_those_of_the_examples_that_were_drawn() -> None:
    images = torch.rand(4, 3, 5, 6)
    draws = torch.tensor([[0.1], [0.6], [0.49], [0.5]])
    flipped = Flip()(images, draws)
    assert torch.equal(flipped, torch.stack([images[0].flip(2), images[1], images[2].flip(2), images[3]]))
    assert torch.equal(Flip(1.0, "vertical")(images, draws), images.flip(2))


def test_crops_are_where_they_were_drawn() -> None:
    images = torch.rand(3, 2, 6, 8)
    draws = torch.tensor([[0.0, 0.0], [0.999, 0.999], [0.4, 0.5]])
    expected = [images[0, :, :4, :4], images[1, :, 2:, 4:], images[2, :, 1:5, 2:6]]
    assert torch.equal(Crop(4)(images, draws), torch.stack(expected))
    padded = Crop(8, pad=1)(images, draws)
    assert torch.equal(padded[0], F.pad(images[0], [1, 0, 1, 1])[:, :8, :8])
    with pytest.raises(Invalid, match="6 x 8 pixels has no part of 9 x 9"):
        Crop(9)(images, draws)


def test_all_frames_of_a_clip_are_changed_alike() -> None:
    kornia()
    frame = torch.rand(2, 1, 3, 9, 9)
    clips = frame.expand(-1, 4, -1, -1, -1).contiguous()
    for change in (Flip(), Crop(5), Rotate(45), Scale(0.3), Light()):
        found = change(clips, torch.rand(2, change.draws))
        assert found.shape[:3] == (2, 4, 3)
        assert all(torch.equal(found[:, 0], found[:, number]) for number in range(4))
    with pytest.raises(Invalid, match=r"Flip changes pictures or clips, not inputs of shape \[2, 9\]"):
        Flip()(torch.rand(2, 9), torch.rand(2, 1))


def test_a_quarter_turn_and_a_double_size() -> None:
    kornia()
    images = torch.rand(2, 3, 7, 7)
    turned = Rotate(90)(images, torch.tensor([[1.0], [0.5]]))
    torch.testing.assert_close(turned, torch.stack([images[0].rot90(1, (1, 2)), images[1]]), atol=1e-5, rtol=0)
    double = Scale(1.0)(images, torch.tensor([[1.0], [0.5]]))
    torch.testing.assert_close(
        double[:, :, 3, 1::2], torch.stack([images[0, :, 3, 2:5], images[1, :, 3, 1::2]]), atol=1e-5, rtol=0
    )


def test_sizes_norms_and_colours() -> None:
    kornia()
    images, none = torch.rand(2, 3, 8, 6), torch.empty(2, 0)
    assert Resize(4, 3)(images, none).shape == (2, 3, 4, 3)
    normal = Normalise((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))(images, none)
    torch.testing.assert_close(normal[:, 2], (images[:, 2] - 0.3) / 0.3)
    grey = Colours("grayscale")(images, none)
    torch.testing.assert_close(grey[:, 0], 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2])
    with pytest.raises(Invalid, match="no colour space 'cmyk'"):
        Colours("cmyk")
    with pytest.raises(Invalid, match="1 channels have no red, green and blue"):
        Colours("hsv")(images[:, :1], none)
    with pytest.raises(Invalid, match="1 channels cannot be normalised by 3 means"):
        Normalise()(images[:, :1], none)


def test_light_of_nothing_changes_nothing_and_more_of_it_is_brighter() -> None:
    kornia()
    images = torch.rand(2, 3, 8, 6) * 0.5
    torch.testing.assert_close(Light()(images, torch.full((2, 3), 0.5)), images)
    torch.testing.assert_close(Light(0.5, 0, 0)(images, torch.ones(2, 3)), images * 1.5)
    grey = Light(0, 0, 1.0)(images, torch.zeros(2, 3))
    torch.testing.assert_close(grey[:, 0], grey[:, 2])


def test_masks_turn_with_their_pictures_and_stay_whole_numbers() -> None:
    kornia()
    masks = torch.randint(0, 11, (3, 9, 9))
    pictures = masks[:, None].expand(-1, 3, -1, -1).float() / 10
    for change in (Flip(), Crop(5), Rotate(30), Scale(0.4)):
        draws = torch.rand(3, change.draws)
        inputs, targets = Both(change).joint(pictures, masks, draws)
        assert targets.dtype == torch.int64 and targets.shape == inputs[:, 0].shape
        assert set(targets.unique().tolist()) <= {0, *masks.unique().tolist()}
        if isinstance(change, (Flip, Crop)):
            assert torch.equal((inputs[:, 0] * 10).round().long(), targets)
    inputs, targets = Both(Rotate(30)).joint(pictures, pictures, torch.rand(3, 1))
    assert torch.equal(inputs, targets)


def test_mixup_mixes_each_example_with_the_next_one_and_its_class() -> None:
    data = Arrays(torch.eye(12), torch.arange(12))
    for part in batches(data, 5, seed=2, augment=Mixup(12)):
        torch.testing.assert_close(part.inputs, part.targets)
        torch.testing.assert_close(part.targets.sum(1), torch.ones(len(part.targets)))
        assert (part.targets[:-1] > 0).sum(1).max() == 2 and part.targets[-1].max() == 1
    numbers = next(batches(Arrays(torch.eye(4), torch.arange(4.0)), 4, augment=Mixup()))
    torch.testing.assert_close(numbers.inputs @ torch.arange(4.0), numbers.targets)
    with pytest.raises(Invalid, match=r"Say Mixup\(classes=10\)"):
        next(batches(data, 4, augment=Mixup()))


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 3.0])
def test_the_parts_of_mixup_have_the_moments_of_the_beta_distribution(alpha: float) -> None:
    parts = Mixup(alpha=alpha).parts((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000)
    assert float(parts.mean()) == pytest.approx(0.5, abs=1e-6)
    assert float(parts.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-3)
    assert float(parts.min()) >= 0 and bool((parts.diff() >= 0).all())
    if alpha == 0.5:  # The arcsine law.
        torch.testing.assert_close(parts[25_000], torch.tensor(0.5 - 2**-1.5, dtype=torch.float64), atol=1e-4, rtol=0)


def test_without_kornia_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    with pytest.raises(Unsupported, match=r"kornia, which is not installed. pip install 'noria\[augment\]'"):
        Rotate()(torch.rand(1, 3, 4, 4), torch.rand(1, 1))
    assert Flip()(torch.rand(1, 3, 4, 4), torch.rand(1, 1)).shape == (1, 3, 4, 4)


def test_tokens_are_hidden_in_the_usual_parts_and_stay_hidden_after_a_restart() -> None:
    texts = torch.randint(1, 60, (4000, 25), generator=torch.Generator().manual_seed(0))
    hide, data = Hide(25, mask=60), Arrays(texts, texts)
    (seen,) = batches(data, 4000, seed=1, augment=hide)
    (whole,) = batches(data, 4000, seed=1)
    asked = seen.targets != UNASKED
    assert torch.equal(seen.targets[asked], whole.inputs[asked]) and torch.equal(seen.inputs[~asked], whole.inputs[~asked])
    masked, kept = seen.inputs[asked] == 60, seen.inputs[asked] == whole.inputs[asked]
    drawn = seen.inputs[asked][~masked & ~kept]
    found = [part.float().mean().item() for part in (asked, masked, kept)]
    assert found == pytest.approx([0.15, 0.8, 0.1], rel=0.1) and set(drawn.tolist()) == set(range(1, 60))
    halves = [list(batches(data, 1000, rank=rank, world=2, seed=1, start=2, augment=hide)) for rank in range(2)]
    again = torch.cat([part.inputs for parts in zip(*halves, strict=True) for part in parts])
    assert torch.equal(again, seen.inputs[2000:])
