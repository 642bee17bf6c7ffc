"""Data from files: pictures, films, text, tables and series."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")

import torch
from PIL import Image

from noria.errors import Invalid, NotFound, Unsupported
from noria.train.data import batches
from noria.train.folders import clips, images
from noria.train.series import forecast, labelled
from noria.train.tables import table
from noria.train.text import text
from tests.conftest import require

COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two of each colour, 12 x 8 pixels, whose left quarter is black."""
    for name, colour in COLOURS.items():
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(2):
            image = Image.new("RGB", (12, 8), colour)
            image.paste((0, 0, 0), (0, 0, 3, 8))
            image.save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def test_pictures_in_folders_are_scaled_and_cut_to_their_middle(pictures: Path) -> None:
    found = images(pictures, 8)
    assert found.classes == ("blue", "red") and len(found) == 4
    inputs, targets = found.gather(torch.tensor([3, 0]))
    assert inputs.shape == (2, 3, 8, 8) and targets.tolist() == [1, 0]
    assert inputs[0, :, 4, 4].tolist() == [1, 0, 0] and inputs[1, :, 4, 4].tolist() == [0, 0, 1]
    assert inputs[0, 0, :, 0].tolist() == [0.0] * 8  # Two columns were cut off, of three that are black.
    assert images(pictures, 4, channels=1).gather(torch.tensor([0]))[0].shape == (1, 1, 4, 4)
    assert next(batches(found, 4, seed=1)).targets.sort().values.tolist() == [0, 0, 1, 1]


def test_the_digest_is_that_of_names_and_content(pictures: Path) -> None:
    before = images(pictures, 8).digest
    assert before == images(pictures, 4).digest and len(before) == 32
    Image.new("RGB", (12, 8)).save(pictures / "red" / "1.png")
    after = images(pictures, 8).digest
    (pictures / "red" / "1.png").rename(pictures / "red" / "2.png")
    assert len({before, after, images(pictures, 8).digest}) == 3


def test_what_is_wrong_with_a_folder_is_one_sentence_with_its_name(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"no folder {tmp_path}/nowhere"):
        images(tmp_path / "nowhere", 8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Invalid, match=f"{tmp_path}/empty has no folders in it. Put the pictures of each class"):
        images(tmp_path / "empty", 8)
    (pictures / "green").mkdir()
    with pytest.raises(Invalid, match=f"{pictures}/green has no pictures in it"):
        images(pictures, 8)
    with pytest.raises(Invalid, match="1 or 3 channels, not 4"):
        images(pictures, 8, channels=4)


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b"no picture", lambda content: b""]
)
def test_a_damaged_picture_is_named(pictures: Path, damage: Any) -> None:
    file = pictures / "red" / "0.png"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(Invalid, match=f"The picture {file} cannot be read"):
        images(pictures, 8).gather(torch.arange(4))


def test_clips_of_frames_are_taken_at_equal_distances(tmp_path: Path) -> None:
    clip = tmp_path / "fades" / "first"
    clip.mkdir(parents=True)
    for number in range(9):
        Image.new("L", (6, 6), number * 10).save(clip / f"{number:03}.png")
    found = clips(tmp_path, 3, 4, channels=1)
    inputs, targets = found.gather(torch.tensor([0]))
    assert inputs.shape == (1, 3, 1, 4, 4) and targets.tolist() == [0]
    assert (inputs[0, :, 0, 0, 0] * 255).round().tolist() == [10, 40, 70]
    assert clips(tmp_path, 12, 4).gather(torch.tensor([0]))[0].shape == (1, 12, 3, 4, 4)
    assert len(found.digest) == 32


def film(path: Path, frames: int) -> None:
    import av
    import numpy as np

    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for number in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), number * 20, np.uint8), format="rgb24")))
        out.mux(stream.encode())


def test_films_are_decoded(tmp_path: Path) -> None:
    require("av", find_spec("av") is not None, "pip install 'noria[films]'")
    (tmp_path / "fades").mkdir()
    film(tmp_path / "fades" / "first.mp4", 9)
    inputs, _ = clips(tmp_path, 3, 16).gather(torch.tensor([0]))
    assert inputs.shape == (1, 3, 3, 16, 16)
    assert (inputs[0, :, 0, 8, 8] * 255).tolist() == pytest.approx([20, 80, 140], abs=6)
    (tmp_path / "fades" / "first.mp4").write_bytes(b"no film")
    with pytest.raises(Invalid, match=r"first.mp4 cannot be read"):
        clips(tmp_path, 3, 16).gather(torch.tensor([0]))


def test_without_their_libraries_the_cure_is_named(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "films" / "a").mkdir(parents=True)
    (tmp_path / "films" / "a" / "b.mp4").touch()
    for name in ("av", "PIL"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unsupported, match=r"b.mp4 is a film, and PyAV.* pip install 'noria\[films\]'"):
        clips(tmp_path / "films", 3, 16).gather(torch.tensor([0]))
    with pytest.raises(Unsupported, match="pip install pillow"):
        images(pictures, 8).gather(torch.tensor([0]))


def test_text_is_windows_of_characters_and_the_next_ones(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("abcä" * 50)
    found = text(file, 8)
    assert found.characters is not None and found.characters.known == "abcä"
    inputs, targets = found.train.gather(torch.tensor([0, 1]))
    assert [found.characters.decode(row) for row in inputs.tolist()] == ["abcäabcä"] * 2
    assert found.characters.decode(targets[0].tolist()) == "bcäabcäa"
    assert len(found.train) == 22 and len(found.validation) == 2
    assert found.characters.encode("äa") == [3, 0]
    with pytest.raises(Invalid, match="character 'z' was not in the text"):
        found.characters.encode("z")


def test_text_takes_the_tokens_that_are_given(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("one two three four five six seven eight nine ten " * 4)
    found = text(file, 4, tokenizer=lambda words: [len(word) for word in words.split()], validation=0.25, stride=2)
    assert found.characters is None
    assert found.train.gather(torch.tensor([1]))[0].tolist() == [[5, 4, 4, 3]]
    assert len(found.validation.values) == 10


def test_what_is_wrong_with_a_text_is_one_sentence_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=f"{tmp_path} cannot be read: Is a directory"):
        text(tmp_path, 8)
    with pytest.raises(NotFound, match=r"no file .*/nowhere.txt"):
        text(tmp_path / "nowhere.txt", 8)
    (tmp_path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(Invalid, match=r"latin.txt is not UTF-8: .* at byte 2"):
        text(tmp_path / "latin.txt", 8)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(Invalid, match=r"empty.txt is empty"):
        text(tmp_path / "empty.txt", 8)


CSV = "size,colour,grows,kind\n" + "".join(
    f"{number}.5,{('red', 'blue')[number % 2]},{number % 3},{('yes', 'no')[number % 2]}\n" for number in range(20)
)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow")
    (tmp_path / "rows.csv").write_text(CSV)
    return tmp_path / "rows.csv"


def test_columns_become_features_and_classes(rows: Path) -> None:
    found = table(rows, "kind", validation=0.25, seed=1)
    assert (len(found.train), len(found.validation)) == (15, 5)
    assert found.features == ("size", "colour", "grows") and found.classes == ("no", "yes")
    assert found.words == {"colour": ("blue", "red")}
    assert torch.equal(found.train.inputs[:, 1].long(), found.train.targets)  # red, and yes, are both 1.
    sizes = found.train.inputs[:, 0]
    assert float(sizes.mean()) == pytest.approx(0, abs=1e-6) and float(sizes.std(correction=0)) == pytest.approx(1, abs=1e-6)
    back = (torch.cat([sizes, found.validation.inputs[:, 0]]) * found.std[0] + found.mean[0]).sort().values
    torch.testing.assert_close(back, torch.arange(20) + 0.5)


def test_a_target_of_numbers_and_one_of_whole_numbers(rows: Path) -> None:
    numbers = table(rows, "size", features=["grows"])
    assert numbers.classes == () and numbers.train.targets.dtype == torch.float32 and numbers.train.inputs.shape == (16, 1)
    kinds = table(rows, "grows")
    assert kinds.classes == ("0", "1", "2") and kinds.train.targets.dtype == torch.int64
    assert table(rows, "grows", classes=False).train.targets.dtype == torch.float32


def test_parquet_holds_the_same(rows: Path) -> None:
    from pyarrow import csv, parquet

    parquet.write_table(csv.read_csv(rows), rows.with_suffix(".parquet"))
    one, other = table(rows, "kind"), table(rows.with_suffix(".parquet"), "kind")
    assert torch.equal(one.train.inputs, other.train.inputs) and torch.equal(one.validation.targets, other.validation.targets)
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("content", "target", "said"),
    [
        (CSV, "sort", "has no column 'sort'. It has: size, colour, grows, kind"),
        (CSV.replace("\n7.5", "\ninf"), "kind", "has inf for 'size' in row 8"),
        (CSV.replace("\n7.5", "\nnan"), "kind", "has no value for 'size' in row 8"),
        (CSV.replace("\n7.5", "\n?"), "kind", r"has '\?' for 'size' in row 8, where others have numbers"),
        (CSV.replace("\n7.5", "\n"), "kind", "has no value for 'size' in row 8"),
        (CSV + "1,2\n", "kind", "cannot be read: CSV parse error: Expected 4 columns"),
        ("size,kind\n", "kind", "has 0 rows"),
        ("", "kind", "cannot be read: Empty CSV"),
        ("a,kind\n" + "2024-01-01,1\n" * 20, "kind", "'a' of .* is date32.*, neither numbers nor words"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_sentence_with_its_name(rows: Path, content: str, target: str, said: str) -> None:
    rows.write_text(content)
    with pytest.raises(Invalid, match=said) as raised:
        table(rows, target)
    assert "rows.csv" in raised.value.message and "\n" not in raised.value.message


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file .*/nowhere.csv"):
        table(tmp_path / "nowhere.csv", "kind")
    (tmp_path / "rows.parquet").write_bytes(b"no parquet")
    with pytest.raises(Invalid, match=r"rows.parquet cannot be read"):
        table(tmp_path / "rows.parquet", "kind")


def test_a_forecast_looks_back_over_the_cut_and_never_ahead() -> None:
    found = forecast(torch.arange(100.0), past=10, horizon=2)
    assert found.mean.tolist() == [39.5]
    ends = [float((windows.gather(torch.tensor([0]))[1] * found.std + found.mean)[0, 0, 0])
            for windows in (found.train, found.validation, found.test)]  # fmt: skip
    assert ends == pytest.approx([10, 80, 90])
    last = found.train.gather(torch.tensor([len(found.train) - 1]))[1] * found.std + found.mean
    assert last.flatten().tolist() == pytest.approx([78, 79])
    assert [len(found.validation), len(found.test)] == [9, 9]
    with pytest.raises(Invalid, match="no number at place 3"):
        forecast(torch.tensor([1.0, 2.0, 3.0, float("nan")] * 20), 4, 1)


SERIES = "# Two classes.\n@problemName small\n@classLabel true up down\n@data\n1,2,3:4,5,6:up\n3,2,1:6,5,4:down\n"


def test_series_with_classes(tmp_path: Path) -> None:
    file = tmp_path / "small.ts"
    file.write_text(SERIES)
    found = labelled(file)
    assert found.classes == ("up", "down") and found.arrays.targets.tolist() == [0, 1]
    assert found.arrays.inputs.tolist() == [[[1, 4], [2, 5], [3, 6]], [[3, 6], [2, 5], [1, 4]]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (SERIES.replace("@data", "@date"), "is no file of series with classes"),
        (SERIES.replace("6:up", "?:up"), "lists of different lengths in line 5"),
        (SERIES.replace("6:up", "NaN:up"), "lacks a value in line 5"),
        (SERIES.replace("4:down", "4:sideways"), "class 'sideways' in line 6, but its header names up, down"),
        (SERIES.replace("3,2,1:6,5,4", "3,2:6,5"), "several lengths, as in line 6"),
        (SERIES.partition("1,2")[0], "has no series in it"),
    ],
)
def test_what_is_wrong_with_series_is_one_sentence_with_its_name(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "small.ts"
    file.write_text(content)
    with pytest.raises(Invalid, match=f"small.ts.*{said}"):
        labelled(file)
    with pytest.raises(NotFound, match=r"no file .*/nowhere.ts"):
        labelled(tmp_path / "nowhere.ts")
