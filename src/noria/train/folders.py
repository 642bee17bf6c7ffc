"""Pictures and video clips in folders: one folder for each class, in the order of their names.

What is read is float32 from 0 to 1; Pillow decodes pictures, PyAV films. Both let go of Python's lock while they decode, so threads
are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noria.errors import Invalid, NotFound, Unsupported
from noria.train.data import Pair, digest

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
FILMS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")


@dataclass(frozen=True, eq=False)
class Folder:
    """Examples that are files, or folders of frames: `places` with the number of each one's class in `classes`.

    read: makes uint8 [..., height, width] of a place. workers: threads that do so.
    """

    root: Path
    classes: tuple[str, ...]
    places: tuple[Path, ...]
    targets: Tensor
    read: Callable[[Path], Tensor]
    workers: int

    def __len__(self) -> int:
        return len(self.places)

    def gather(self, chosen: Tensor, /) -> Pair:
        wanted = [self.places[number] for number in chosen.tolist()]
        return torch.stack(list(self._pool.map(self.read, wanted))).float() / 255, self.targets[chosen]

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.workers, "noria-read")

    @cached_property
    def digest(self) -> str:
        """Over the names and the content of all files, which are read for it the first time."""
        return digest(self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        for place in self.places:
            for file in _frames(place) if place.is_dir() else [place]:
                yield str(file.relative_to(self.root)).encode("utf-8", "surrogateescape") + b"\0"
                yield file.read_bytes()


def images(root: Path | str, side: int, *, channels: int = 3, workers: int = 2) -> Folder:
    """A folder with a folder of pictures for each class: inputs [b, channels, side, side], targets int64 [b].

    A picture is scaled until its shorter side has `side` pixels, and cut to its middle. channels: 3 for colours, 1 for grey.
    """
    _refuse_channels(channels)
    return _folder(Path(root), PICTURES, False, lambda path: decoded(path, channels, side), workers, "pictures")


def clips(root: Path | str, frames: int, side: int, *, channels: int = 3, workers: int = 2) -> Folder:
    """A folder with a folder of clips for each class: inputs [b, frames, channels, side, side], targets int64 [b].

    A clip is a film, or a folder of pictures in the order of their names. `frames` of them are taken at equal distances.
    """
    _refuse_channels(channels)

    def read(place: Path) -> Tensor:
        if not place.is_dir():
            return _film(place, frames, side, channels)
        found = _frames(place)
        return torch.stack([decoded(found[number], channels, side) for number in _spread(len(found), frames)])

    return _folder(Path(root), FILMS, True, read, workers, "clips")


def _refuse_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise Invalid(f"Pictures have 1 or 3 channels, not {channels}.", "Use channels=3 for colours, channels=1 for grey.")


def _folder(
    root: Path, endings: tuple[str, ...], folders: bool, read: Callable[[Path], Tensor], workers: int, what: str
) -> Folder:
    if not root.is_dir():
        raise NotFound(f"There is no folder {root}.", "Check its path.")
    classes = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise Invalid(f"{root} has no folders in it.", f"Put the {what} of each class into a folder of its own there.")
    places, targets = list[Path](), list[int]()
    for number, name in enumerate(classes):
        found = sorted(path for path in (root / name).iterdir()
                       if path.suffix.lower() in endings or (folders and path.is_dir() and _frames(path)))  # fmt: skip
        if not found:
            raise Invalid(f"{root / name} has no {what} in it ({', '.join(endings)}).", "Fill it, or take it away.")
        places += found
        targets += [number] * len(found)
    return Folder(root, tuple(classes), tuple(places), torch.tensor(targets), read, workers)


def _frames(clip: Path) -> list[Path]:
    return sorted(path for path in clip.iterdir() if path.suffix.lower() in PICTURES)


def _spread(count: int, wanted: int) -> list[int]:
    """The numbers of `wanted` frames of `count`, each from the middle of its part; a short clip repeats some."""
    return [(2 * place + 1) * count // (2 * wanted) for place in range(wanted)]


def decoded(path: Path, channels: int, side: int | None = None) -> Tensor:
    """A picture as uint8 [channels, height, width]; cut to a square of `side` pixels if that is given."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise Unsupported("Pictures are decoded by Pillow, which is not installed.", "pip install pillow") from None
    try:
        with Image.open(path) as image:
            if side:
                image.draft("RGB", (side, side))  # A JPEG is decoded at an eighth of its size if that is enough.
            upright = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
            return _tensor(ImageOps.fit(upright, (side, side), Image.Resampling.BICUBIC) if side else upright)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Invalid(f"The picture {path} cannot be read: {error}.", "Mend it, or take it away.") from None


def _tensor(image: object) -> Tensor:
    """A Pillow image as uint8 [channels, height, width]."""
    values = torch.from_numpy(np.array(image))
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1).contiguous()


def _film(path: Path, frames: int, side: int, channels: int) -> Tensor:
    try:
        import av
    except ImportError:
        raise Unsupported(f"{path} is a film, and PyAV, which decodes films, is not installed.",
                          "pip install 'noria[films]', or make a folder of its frames.") from None  # fmt: skip
    from PIL import Image, ImageOps

    def cut(frame: av.VideoFrame) -> Tensor:
        image = Image.fromarray(frame.to_ndarray(format="gray" if channels == 1 else "rgb24"))
        return _tensor(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))

    try:
        with av.open(str(path)) as film:
            wanted = _spread(sum(1 for _ in film.decode(video=0)), frames)  # What the file says of its length may be wrong.
        with av.open(str(path)) as film:
            seen = {number: cut(frame) for number, frame in enumerate(film.decode(video=0)) if number in set(wanted)}
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise Invalid(f"The film {path} cannot be read: {error}.", "Mend it, or take it away.") from None
    if not seen:
        raise Invalid(f"The film {path} has no pictures in it.", "Mend it, or take it away.")
    return torch.stack([seen[number] for number in wanted])
