"""Every layout on real processes: the same losses and the same weights as one process has."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

sys.path.insert(0, str(Path(__file__).parent))
import example

from noria.errors import Invalid
from noria.train import parallel
from noria.train.layout import Layout, automatic, layout


def test_a_layout_is_read() -> None:
    assert layout("data=2,tensor=2", 4) == Layout(data=2, tensor=2)
    assert layout("data", 8) == Layout(data=8)
    assert layout("tensor=2, shard", 8) == Layout(shard=4, tensor=2)
    assert layout("", 1) == Layout() == layout("data", 1)


@pytest.mark.parametrize(
    ("text", "world", "said"),
    [
        ("data=3", 4, "is for 3 processes, and there are 4"),
        ("data=2", 1, "is for 2 processes, and there is 1"),
        ("tensor=3,data", 4, "cannot be laid out over 4 processes. Start a multiple of 3"),
        ("data,tensor", 4, "cannot be laid out"),
        ("rows=2", 2, "'rows=2', which is not one more axis"),
        ("data=2,data=2", 4, "'data=2', which is not one more axis"),
        ("data=two", 2, "'two' is not a number"),
        ("data=0", 2, "'0' is not a number"),
    ],
)
def test_a_wrong_layout_is_one_sentence_with_a_cure(text: str, world: int, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        layout(text, world)


def test_every_rank_has_its_place_and_tensor_neighbours_are_next_to_each_other() -> None:
    whole = Layout(pipeline=2, data=2, shard=3, tensor=2)
    places = [whole.place(rank) for rank in range(whole.size)]
    assert len(set(places)) == whole.size == 24
    assert places[0] == Layout(0, 0, 0, 0, 0) and places[1] == Layout(tensor=1, pipeline=0, data=0, context=0, shard=0)
    assert places[-1] == Layout(pipeline=1, data=1, context=0, shard=2, tensor=1)


def test_what_does_not_fit_into_a_device_is_sharded() -> None:
    assert automatic(10**9, 8, None) == Layout(data=8)
    assert automatic(10**9, 8, 80 * 2**30) == Layout(data=8)
    assert automatic(7 * 10**9, 8, 80 * 2**30) == Layout(shard=8)


@pytest.mark.parametrize(
    ("sizes", "stages", "expected"),
    [
        ([1, 1, 1, 1], 2, [0, 0, 1, 1]),
        ([1, 1, 1, 1], 4, [0, 1, 2, 3]),
        ([9, 1, 1, 1], 2, [0, 1, 1, 1]),
        ([1, 1, 1, 9], 2, [0, 0, 0, 1]),
        ([0, 0, 0], 3, [0, 1, 2]),
        ([100, 1, 1], 3, [0, 1, 2]),
        ([1, 1, 100], 3, [0, 1, 2]),
    ],
)
def test_stages_have_about_the_same_weight(sizes: list[int], stages: int, expected: list[int]) -> None:
    assert parallel.stages_by_weight(sizes, stages) == expected


def launch(folder: Path, world: int, *plans: dict[str, Any]) -> list[int]:
    """Run trainings on several ranks, one after the other; the ranks' exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}  # fmt: skip
    folder.mkdir(exist_ok=True)
    command = [sys.executable, example.__file__, str(folder), *map(json.dumps, plans)]
    ranks = [subprocess.Popen(command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(world)]
    try:
        return [rank.wait(timeout=200) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()


def alone(folder: Path, **plan: Any) -> dict[str, Any]:
    """What one process makes of it."""
    folder.mkdir(exist_ok=True)
    example.run(folder, 0, plan)
    return outcome(folder)


def outcome(folder: Path, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / f"{number}.pt", weights_only=True)
    return found


def same(one: dict[str, Any], other: dict[str, Any], tolerance: float = 1e-5) -> None:
    common = one["losses"].keys() & other["losses"].keys()
    assert common
    for step in sorted(common):
        assert one["losses"][step] == pytest.approx(other["losses"][step], abs=tolerance), step
    assert one["weights"].keys() == other["weights"].keys()
    for name, tensor in one["weights"].items():
        torch.testing.assert_close(other["weights"][name], tensor, rtol=0, atol=tolerance)
    assert one["values"]["val_loss"] == pytest.approx(other["values"]["val_loss"], abs=tolerance)


LAYOUTS = {
    2: ["data=2", "shard=2", "tensor=2", "pipeline=2"],
    4: [
        "shard=4",
        "data=2,shard=2",
        "data=2,tensor=2",
        "shard=2,tensor=2",
        "pipeline=2,data=2",
        "pipeline=2,tensor=2",
        "pipeline=4",
    ],
}
OF_TEXTS = {
    2: ["context=2", "pipeline=2", "tensor=2", "data=2"],
    4: ["context=4", "context=2,shard=2", "data=2,context=2", "context=2,tensor=2", "pipeline=2,context=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("net", ["mlp", "gpt"])
@pytest.mark.parametrize("world", LAYOUTS)
def test_every_layout_does_what_one_process_does(tmp_path: Path, world: int, net: str) -> None:
    plan = {"net": net, "clip": 1.0, "ema": 0.9, "epochs": 2} | ({"augment": None, "recompute": True} if net == "gpt" else {})
    layouts = (LAYOUTS if net == "mlp" else OF_TEXTS)[world]
    expected = alone(tmp_path / "alone", **plan)
    assert launch(tmp_path / "all", world, *({**plan, "parallel": each} for each in layouts)) == [0] * world
    for number, each in enumerate(layouts):
        print(each)
        same(expected, outcome(tmp_path / "all", number))


@pytest.mark.slow
def test_what_four_processes_saved_others_go_on_with(tmp_path: Path) -> None:
    """Saved in the middle of an epoch by shards of cut matrices; finished by one process, by a pipeline of two, and by two copies."""
    plan = {"net": "mlp", "clip": 1.0, "ema": 0.9, "epochs": 3}
    expected = alone(tmp_path / "alone", **plan)
    assert launch(tmp_path / "four", 4, {**plan, "parallel": "shard=2,tensor=2", "stop": 8}) == [75] * 4
    saved = tmp_path / "four" / "0"
    newest = max(int(path.name[5:13]) for path in saved.iterdir())
    assert 8 <= newest < 21
    for name, world in {"data": 1, "pipeline": 2, "tensor": 2}.items():
        shutil.copytree(saved, tmp_path / name / "0")
        assert launch(tmp_path / name, world, {**plan, "parallel": name}) == [0] * world
        rest = outcome(tmp_path / name)
        assert min(rest["losses"]) == newest
        same(expected, rest)


@pytest.mark.slow
def test_two_copies_do_what_one_does_also_with_convolutions_and_across_a_restart(tmp_path: Path) -> None:
    """Stopped on two ranks by a signal to the second, finished by one: as if one had done it all, up to rounding."""
    expected = alone(tmp_path / "alone", clip=1.0)
    assert launch(tmp_path / "two", 2, {"clip": 1.0, "parallel": "data", "stop": 10}) == [75, 75]
    newest = max(int(path.name[5:13]) for path in (tmp_path / "two" / "0").iterdir())
    rest = alone(tmp_path / "two", clip=1.0)
    assert min(rest["losses"]) == newest
    same(expected, rest)


@pytest.mark.slow
def test_five_steps_on_two_ranks_are_five_steps_on_one(tmp_path: Path) -> None:
    """The published bar: weights within 1e-6 after five steps of AdamW."""
    plan = {"clip": 1.0, "epochs": None, "steps": 5}
    expected = alone(tmp_path / "alone", **plan)
    assert launch(tmp_path / "two", 2, {**plan, "parallel": "data"}) == [0, 0]
    found = outcome(tmp_path / "two")
    assert len(found["losses"]) == len(expected["losses"]) == 5
    worst = max(float((found["weights"][name] - tensor).abs().max()) for name, tensor in expected["weights"].items())
    print(worst)
    assert worst < 1e-6


@pytest.mark.parametrize(("net", "text", "said"), [("cnn", "tensor=1", ""), ("cnn", "pipeline=2", "is for 2 processes")])
def test_a_layout_for_other_processes_is_refused_before_anything_is_done(net: str, text: str, said: str, tmp_path: Path) -> None:
    trainer = example.trainer(example.NETS[net][0](), parallel=text, folder=tmp_path, epochs=1)
    if not said:
        assert trainer.fit(example.TRAIN).steps == 7
        return
    with pytest.raises(Invalid, match=said):
        trainer.fit(example.TRAIN)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_cut_is_refused_with_a_cure() -> None:
    with pytest.raises(Invalid, match="in what order its layers are applied"):
        parallel.stage_of(example.model(), 0, 2)
    with pytest.raises(Invalid, match="has 2 layers to cut; a pipeline of 3"):
        parallel.stage_of(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), 0, 3)
    shared = torch.nn.Linear(2, 2)
    with pytest.raises(Invalid, match="share a weight"):
        parallel.stage_of(torch.nn.Sequential(shared, torch.nn.ReLU(), shared), 0, 2)
    with pytest.raises(Invalid, match="finds no two linear layers"):
        parallel.pairs(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 2)))


@pytest.mark.slow
def test_layers_are_thawed_alike_in_every_layout_and_across_a_restart(tmp_path: Path) -> None:
    plan = {"net": "mlp", "clip": 1.0, "thaw": {0: ["5", "6"], 1: ["3", "5", "6"], 2: [""]}}
    expected = alone(tmp_path / "alone", **plan)
    layouts = ["data=2", "shard=2", "tensor=2"]
    assert launch(tmp_path / "all", 2, *({**plan, "parallel": each} for each in layouts)) == [0, 0]
    for number, each in enumerate(layouts):
        print(each)
        same(expected, outcome(tmp_path / "all", number))
    assert launch(tmp_path / "stopped", 2, {**plan, "parallel": "shard", "stop": 9}) == [75, 75]
    rest = alone(tmp_path / "stopped", **plan)
    assert min(rest["losses"]) > 7
    same(expected, rest)
