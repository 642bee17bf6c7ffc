"""A file that is written anew while others read it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from noria import atomic


def test_whoever_reads_finds_one_of_them_whole(tmp_path: Path) -> None:
    path, wrong, over = tmp_path / "file", [], threading.Event()
    contents = {bytes([number]) * 10_000 for number in range(2)}
    atomic.write(path, min(contents))

    def read() -> None:
        while not over.is_set():
            wrong.extend({path.read_bytes()} - contents)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for each in readers:
        each.start()
    for _ in range(100):
        for content in contents:
            atomic.write(path, content)
    over.set()
    for each in readers:
        each.join()
    assert not wrong and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        atomic.write(tmp_path / "taken", b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"] and (tmp_path / "taken").is_dir()


def test_the_mode_is_as_asked(tmp_path: Path) -> None:
    atomic.write(tmp_path / "own", b"", mode=0o700)
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700


def test_what_went_wrong_first_is_what_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        atomic.write(tmp_path / "file" / "inside", b"new")
    with pytest.raises(FileNotFoundError):
        atomic.write(tmp_path / "nowhere" / "inside", b"new")
