from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from noria.errors import NotFound
from noria.train import checkpoint


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name[5:13]) for path in folder.iterdir())


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    state = {"weights": {"w": torch.randn(3, 2)}, "done": 7, "best": {"val_accuracy": 0.9}, "nothing": None}
    path = checkpoint.save(state, tmp_path / "new", 7)
    loaded = checkpoint.load(path)
    assert torch.equal(loaded["weights"].pop("w"), state["weights"].pop("w"))  # type: ignore[attr-defined]
    assert loaded == state
    assert checkpoint.latest(tmp_path / "new") == path
    assert torch.load(path, weights_only=True)["done"] == 7


def test_the_last_ones_and_the_best_stay(tmp_path: Path) -> None:
    for step in range(10, 70, 10):
        checkpoint.save({"step": step}, tmp_path, step, keep=2, best=20)
    assert steps(tmp_path) == [20, 50, 60]
    assert checkpoint.load(checkpoint.at(tmp_path, 20)) == {"step": 20}
    with pytest.raises(NotFound):
        checkpoint.at(tmp_path, 30)


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    checkpoint.save({"try": 1}, tmp_path, 5)
    checkpoint.save({"try": 2}, tmp_path, 5)
    assert steps(tmp_path) == [5]
    assert checkpoint.load(checkpoint.at(tmp_path, 5)) == {"try": 2}


@pytest.mark.parametrize("damage", [lambda data: data[:-10], lambda data: data[:50] + b"\0" + data[51:], lambda data: b""])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    whole = checkpoint.save({"step": 1}, tmp_path, 1)
    broken = checkpoint.save({"step": 2}, tmp_path, 2)
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoint.latest(tmp_path) == whole


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = checkpoint.save({"step": 1}, tmp_path, 1)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save({"step": 2}, tmp_path, 2)
    assert list(tmp_path.iterdir()) == [whole]


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".step-00000003.1.tmp").write_bytes(b"half")
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "missing") is None
