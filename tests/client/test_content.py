"""Hashes of content: the same data are the same digest, whatever they are called and wherever they lie."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import noria
from noria.client import content
from noria.errors import Invalid, NotFound
from noria.wire import lineage
from tests.conftest import Running

np = pytest.importorskip("numpy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "flowers"
    (made / "red").mkdir(parents=True)
    (made / "red" / "rose").write_bytes(b"rose" * 1000)
    (made / "daisy").write_bytes(b"daisy")
    return made


def test_a_file_is_called_by_its_sha256(folder: Path) -> None:
    found = content.of(folder / "daisy")
    assert found == content.Content(hashlib.sha256(b"daisy").hexdigest()[:32], str(folder / "daisy"), 5)


def test_a_folder_is_called_by_paths_and_content(folder: Path, tmp_path: Path) -> None:
    copy, seen = tmp_path / "elsewhere", {content.of(folder).digest}
    shutil.copytree(folder, copy)
    assert {content.of(copy).digest, content.of(f"{copy}/").digest} == seen
    (copy / "again").symlink_to(copy)  # A link that leads back does not end the walk, nor keep it going.
    os.rename(copy / "daisy", copy / "other")
    seen.add(content.of(copy).digest)
    (copy / "other").write_bytes(b"lily!")
    seen.add(content.of(copy).digest)
    (copy / "empty").touch()
    seen.add(content.of(copy).digest)
    assert len(seen) == 4


def test_what_is_kept_stands_until_a_file_changes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, read = tmp_path / "hashes", list[str]()
    hash_ = content._hash
    monkeypatch.setattr(content, "_hash", lambda path, signs, tell: (read.append(os.fsdecode(path)), hash_(path, signs, tell))[1])
    monkeypatch.setattr(content, "_SETTLED", 0)
    before = content.of(folder, cache)
    assert len(read) == 2 and content.of(folder, cache) == before and len(read) == 2
    old = os.stat(folder / "daisy")
    (folder / "daisy").write_bytes(b"DAISY")
    os.utime(folder / "daisy", ns=(old.st_atime_ns, old.st_mtime_ns))  # Size and time say that nothing has changed.
    assert content.of(folder, cache) != before and len(read) == 3
    next(cache.iterdir()).write_bytes(b"damaged")
    assert content.of(folder, cache) != before and len(read) == 5


def test_a_file_of_just_now_is_not_believed_to_stay_as_it_is(folder: Path, tmp_path: Path) -> None:
    content.of(folder, tmp_path / "hashes")
    (kept,) = (tmp_path / "hashes").iterdir()
    assert content._read(kept) == {}


def test_progress_reaches_the_end(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    content.of_path(folder, tell=lambda done, total: told.append((done, total)))
    assert told[-1] == (4005, 4005)


def test_arrays_by_type_shape_and_values() -> None:
    base = np.arange(6, dtype="float32")
    same = [base, base.copy(), np.arange(12, dtype="float32")[::1][:6], np.stack([base, base])[1]]
    assert len({content.of(each).digest for each in same}) == 1
    other = [
        base.reshape(2, 3),
        base.astype("float64"),
        base[::-1],
        np.array(3.0),
        np.zeros((0, 3)),
        np.array(["a", None], dtype=object),
    ]
    assert len({content.of(each).digest for each in [base, *other]}) == 7
    assert content.of(np.asfortranarray(base.reshape(2, 3))) == content.of(base.reshape(2, 3))
    large = np.arange(3_000_000, dtype="float32").reshape(-1, 3)
    assert content.of(large) == content.of(np.asfortranarray(large)) and content.of(large) != content.of(large[:-1])
    assert content.of({"x": base, "y": base}).digest != content.of((base, base)).digest


def test_tensors_are_their_arrays() -> None:
    torch = pytest.importorskip("torch")
    base = np.arange(6, dtype="float32")
    assert content.of(torch.tensor(base, requires_grad=True)) == content.of(base)


def test_tables_by_columns() -> None:
    pandas = pytest.importorskip("pandas")
    base = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert content.of(base) == content.of(base.copy())
    other = [base.rename(columns={"a": "c"}), base[["b", "a"]], base.assign(b=["x", "z"]), base.set_index("b"), base[::-1]]
    assert len({content.of(each).digest for each in [base, *other]}) == 6


@pytest.mark.parametrize("data", [object(), [1, 2], 3.0, lambda: None, np.float32])
def test_what_has_no_content_is_refused_with_a_sentence(data: Any) -> None:
    with pytest.raises(Invalid, match="has no content that can be hashed"):
        content.of(data)


def test_paths_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file or folder"):
        content.of(tmp_path / "nowhere")
    with pytest.raises(Invalid, match="has no files"):
        content.of(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFound):
        content.of(tmp_path / "pipe")


def test_log_dataset_calls_two_copies_one_data_set(own_server: Running, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    digests = []
    for path, name in ((folder, ""), (tmp_path / "copy", "blossoms")):
        with noria.start_run():
            digests.append(noria.log_dataset(path, name))
    with noria.start_run(), pytest.raises(Invalid, match="has no name"):
        noria.log_dataset(np.zeros(3))
    from noria.cli.local import settle

    settle(own_server.client)
    (found,) = own_server.client.call(lineage.LIST_DATA, lineage.ListData()).data
    assert (found.digest, found.names, found.runs) == (digests[0], ["blossoms", "flowers"], 2) and digests[0] == digests[1]


def test_only_the_first_task_of_a_job_reads_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_RUN_ID", "a" * 32)
    monkeypatch.setenv("NORIA_JOB_FOLDER", str(tmp_path / "job"))
    monkeypatch.setenv("RANK", "1")
    (tmp_path / "job" / "spool").mkdir(parents=True)
    assert noria.log_dataset(folder) == ""
    assert noria.log_dataset(folder, digest="known") == "known"
    monkeypatch.setenv("RANK", "0")
    assert noria.log_dataset(folder) == content.of(folder).digest


def test_hashing_keeps_up_with_sha256(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(1 << 20) * 64)
    begun = time.perf_counter()
    hashlib.sha256((tmp_path / "large").read_bytes()).hexdigest()
    alone = time.perf_counter() - begun
    begun = time.perf_counter()
    content.of(tmp_path / "large")
    assert time.perf_counter() - begun < 3 * alone + 0.2
