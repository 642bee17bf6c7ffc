"""A disk that fails at any step, and the order of the steps."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from noria.errors import Conflict, NoriaError, NotFound, Unavailable
from noria.store import artifacts, placing, uploads
from noria.store.artifacts import Disk

WATCHED = {"open", "write", "writev", "pwrite", "pread", "fsync", "fdatasync", "rename", "replace", "mkdir", "stat", "fstat", "dup", "scandir",
           "symlink", "listdir"}  # fmt: skip


class Watched:
    """The module `os`, of which each call of certain functions is passed by `before`."""

    def __init__(self, before: Callable[[str, tuple[Any, ...], dict[str, Any]], None]) -> None:
        self._before = before

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in WATCHED:
            return real

        def call(*args: Any, **more: Any) -> Any:
            self._before(name, args, more)
            return real(*args, **more)

        return call


def watch(patch: pytest.MonkeyPatch, before: Any) -> None:
    """All that the tree asks of the system goes by `before`."""
    watched = Watched(before)
    for module in (artifacts, placing, uploads):
        patch.setattr(module, "os", watched)


class Fault:
    """The disk fails at the N-th call, once."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, name: str, args: object, more: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC if "write" in name else errno.EIO, "No room or no disk")


def large(disk: Disk, path: str, data: bytes) -> None:
    growing = disk.begin(path, len(data))
    try:
        growing.write([data[:5000], data[5000:]])
        growing.commit()
    except BaseException:
        growing.abandon()
        raise


@pytest.mark.parametrize(
    "work",
    [
        lambda disk: disk.put("d/old", b"new" * 9000).result(10),
        lambda disk: disk.put("n/e/w", b"new" * 9000).result(10),
        lambda disk: large(disk, "d/old", b"new" * 9000),
        lambda disk: large(disk, "n/e/w", b"new" * 9000),
        lambda disk: disk.delete("d/old"),
        lambda disk: disk.delete("d"),
        lambda disk: disk.list("d"),
        lambda disk: disk.open("d/old").read(0, 3),
    ],
)
def test_whichever_step_fails_a_file_is_whole_or_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Disk], object]
) -> None:
    for at in count(1):
        root = tmp_path / str(at)
        disk = Disk(root)
        disk.put("d/old", b"old").result(10)
        fault = Fault(at)
        with monkeypatch.context() as patch:
            watch(patch, fault)
            patch.setattr(disk, "sync", artifacts.os.fsync)
            try:
                work(disk)
            except Unavailable as error:
                assert "No room or no disk" in error.message
        files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        assert files.pop("d/old", b"old") in (b"old", b"new" * 9000)
        assert set(files) <= {"n/e/w"} and set(files.values()) <= {b"new" * 9000}, files
        disk.put("d/after", b"goes on").result(10)
        assert disk.open("d/after").read(0, 99) == b"goes on"
        if fault.left > 0:
            assert at > 3
            return


def test_an_answer_comes_after_the_file_and_all_new_folders_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, events = Disk(tmp_path / "root"), list[str]()

    def before(name: str, args: tuple[Any, ...], more: dict[str, Any]) -> None:
        if name == "fsync":
            events.append("sync " + Path(os.readlink(f"/proc/self/fd/{args[0]}")).relative_to(tmp_path).as_posix())
        elif name in ("mkdir", "rename"):
            events.append(name)

    watch(monkeypatch, before)
    disk.sync = artifacts.os.fsync
    disk.put("a/b/file", b"x").result(10)
    assert events[0].endswith(".part") and events[0].startswith("sync root/.noria/")
    assert events[1:4] == ["mkdir", "mkdir", "rename"]
    assert sorted(events[4:]) == ["sync root", "sync root/a", "sync root/a/b"]
    events.clear()
    large(disk, "a/b/file", b"y" * 10_000)
    assert (events[0].endswith(".part"), events[1:]) == (True, ["rename", "sync root/a/b"])
    events.clear()
    disk.delete("a/b")
    assert events == ["rename", "sync root/a"]


def test_without_power_nothing_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path / "root", power=False)
    watch(monkeypatch, lambda name, *_: pytest.fail(name) if "sync" in name else None)
    disk.put("a/b", b"x").result(10)
    large(disk, "c", b"y" * 10_000)
    disk.delete("a")
    assert [file.path for file in disk.list("")] == ["c"]


def test_whichever_step_fails_an_upload_in_parts_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {1: b"a" * 70_000, 2: b"b" * 70_000, 3: b"end"}
    for at in count(1):
        disk, fault = Disk(tmp_path / str(at)), Fault(at)
        failures = 0
        with monkeypatch.context() as patch:
            watch(patch, fault)
            patch.setattr(disk, "sync", artifacts.os.fsync)
            for _ in range(3):
                try:
                    send(disk, parts)
                    break
                except NoriaError as error:
                    assert isinstance(error, Unavailable), error
                    failures += 1
        assert failures <= 1 and disk.open("x/y").read(0, 1 << 20) == b"".join(parts.values())
        if fault.left > 0:
            assert at > 20
            return


def send(disk: Disk, parts: dict[int, bytes]) -> None:
    upload, missing, done = disk.uploads.create("x/y", len(parts), "key")
    for number in missing:
        part = disk.uploads.part(upload, number, len(parts[number]))
        try:
            part.write([parts[number]])
            part.commit()
        except BaseException:
            part.abandon()
            raise
    if not done:
        disk.uploads.complete(upload, {})


def test_two_send_one_part_the_later_counts(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "root")
    upload, _, _ = disk.uploads.create("x", 2)
    first = disk.uploads.part(upload, 1, 4)
    first.write([b"11"])
    second = disk.uploads.part(upload, 1, 4)
    second.write([b"2222"])
    with pytest.raises(NoriaError, match="sent again meanwhile"):
        first.write([b"11"])
    first.abandon()
    second.commit()
    last = disk.uploads.part(upload, 2, 1)
    last.write([b"3"])
    last.commit()
    disk.uploads.complete(upload, {})
    assert disk.open("x").read(0, 99) == b"22223"
    with pytest.raises(NotFound):
        disk.open("y")


def test_a_part_that_is_just_being_sent_again_keeps_the_upload_open(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "root")
    upload, _, _ = disk.uploads.create("x", 1)
    for time in range(2):
        part = disk.uploads.part(upload, 1, 2)
        part.write([b"ab"])
        if time == 0:
            part.commit()
    with pytest.raises(Conflict):
        disk.uploads.complete(upload, {})
    part.commit()
    disk.uploads.complete(upload, {})
    with pytest.raises(Conflict, match="is complete"):
        disk.uploads.part(upload, 1, 2)
