from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from noria.client import saved
from noria.errors import Invalid, NotFound
from noria.train import checkpoint
from noria.train.distributed import World


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name[5:13]) for path in folder.iterdir())


def saver(folder: Path, **more: Any) -> checkpoint.Saver:
    return checkpoint.Saver(folder, World(alone=True), **more)


def state(value: float = 1.0) -> dict[str, Any]:
    return {"model": {"w": torch.full((3, 2), value), "b": torch.zeros(2)}, "moments": {"w": torch.ones(3, 2)}}


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    made = saver(tmp_path / "new")
    made.save(state(0.5), {"done": 7, "best": {"val_accuracy": 0.9}, "nothing": None}, 7)
    made.wait()
    path = checkpoint.latest(tmp_path / "new")
    assert path is not None
    assert checkpoint.progress(path) == {"done": 7, "best": {"val_accuracy": 0.9}, "nothing": None}
    loaded = state(0.0)
    checkpoint.load(path, loaded)
    assert torch.equal(loaded["model"]["w"], state(0.5)["model"]["w"])


def test_it_is_the_state_of_the_call_however_long_the_writing_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = threading.Event()
    slow = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *args, **named: (written.wait(20), slow(*args, **named)))
    made, weights = saver(tmp_path), torch.ones(4)
    made.save({"w": weights}, {}, 1)
    weights.zero_()  # The training goes on meanwhile.
    written.set()
    made.wait()
    loaded = {"w": torch.empty(4)}
    checkpoint.load(checkpoint.at(tmp_path, 1), loaded)
    assert loaded["w"].tolist() == [1.0] * 4


def test_the_last_ones_and_the_best_stay(tmp_path: Path) -> None:
    made = saver(tmp_path, keep=2)
    for step in range(10, 70, 10):
        made.save(state(step), {"step": step}, step, best=20)
    made.wait()
    assert steps(tmp_path) == [20, 50, 60]
    assert checkpoint.progress(checkpoint.at(tmp_path, 20)) == {"step": 20}
    with pytest.raises(NotFound):
        checkpoint.at(tmp_path, 30)


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    made = saver(tmp_path)
    made.save(state(1), {"try": 1}, 5)
    made.save(state(2), {"try": 2}, 5, last=True)
    assert steps(tmp_path) == [5]
    assert checkpoint.progress(checkpoint.at(tmp_path, 5)) == {"try": 2}


@pytest.mark.parametrize("damage", [lambda data: data[:-10], lambda data: data[:50] + b"\0" + data[51:], lambda data: b""])
@pytest.mark.parametrize("file", ["__0_0.distcp", ".metadata", "progress.json"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, damage, file: str) -> None:  # type: ignore[no-untyped-def]
    made = saver(tmp_path)
    made.save(state(1), {"text": "x" * 60}, 1)
    made.save(state(2), {"text": "x" * 60}, 2, last=True)
    broken = checkpoint.at(tmp_path, 2) / file
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoint.latest(tmp_path) == checkpoint.at(tmp_path, 1)


def test_a_full_disk_costs_a_checkpoint_and_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = saver(tmp_path)
    made.save(state(1), {}, 1, last=True)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="cannot be saved .*No space left"):
        patch.setattr(os, "fsync", full)
        made.save(state(2), {}, 2, last=True)
    assert steps(tmp_path) == [1]
    made.save(state(3), {}, 3, last=True)
    assert steps(tmp_path) == [1, 3]


def test_what_torch_says_of_a_full_disk_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **named: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:862] . PytorchStreamWriter failed writing file data/0")

    monkeypatch.setattr(checkpoint, "write", full)
    with pytest.warns(UserWarning, match="No space left"):
        saver(tmp_path).save(state(), {}, 1, last=True)
    assert checkpoint.latest(tmp_path) is None


def test_another_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    saver(tmp_path).save(state(), {}, 1, last=True)
    with pytest.raises(Invalid, match="is of another model"):
        checkpoint.load(checkpoint.at(tmp_path, 1), {"model": {"w": torch.zeros(5, 5)}})
    with pytest.raises(Invalid, match="is of another model"):
        checkpoint.load(checkpoint.at(tmp_path, 1), {"model": {"other": torch.zeros(3, 2)}})


def test_what_was_being_written_when_it_died_is_no_checkpoint(tmp_path: Path) -> None:
    half = saved.beside(tmp_path, 3, 1)
    half.mkdir()
    (half / "progress.json").write_text(json.dumps({}))
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "missing") is None


def test_what_another_process_began_to_write_before_the_first_one_stays(tmp_path: Path) -> None:
    """Ranks come to a checkpoint in any order; the first one must not clear away, nor fail of, what the second has made already."""
    part = saved.beside(tmp_path, 7, "word")
    part.mkdir()
    (part / "second").write_text("2")

    def write(beside: Path) -> None:
        assert beside == part
        (beside / "first").write_text("1")

    path = saved.save(tmp_path, 7, "d", write, together="word")
    assert sorted(each.name for each in path.iterdir()) == ["first", "second"] and saved.whole(path)
