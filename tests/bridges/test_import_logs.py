"""Importing what W&B and TensorBoard have written, with their own writers; whole, damaged and cut short."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from noria import bridges
from noria.bridges import leveldb, tfrecord
from noria.bridges.bring import Summary
from noria.types import Run
from noria.wire import experiments, imports, runs
from noria.wire.imports import Series
from tests.conftest import Running, require

WANDB = """
import math, sys
import numpy as np
import wandb
folder, run_id, code = sys.argv[1], sys.argv[2], int(sys.argv[3])
run = wandb.init(project="proj", name="run one", id=run_id, config={"lr": 0.1, "net": {"depth": 3, "act": "relu"}, "sizes": [1, 2]},
                 tags=["a", "b"], notes="my notes", group="g", mode="offline", dir=folder,
                 settings=wandb.Settings(x_disable_stats=True, console="off", silent=True))
for step in range(20):
    run.log({"loss": 1 / (step + 1), "val/acc (top 1)": step / 20, "nested": {"x": step}})
run.log({"nan": math.nan, "inf": -math.inf, "h": wandb.Histogram(np.arange(10)), "words": "w" * 100_000,
         "img": wandb.Image(np.zeros((4, 4, 3), dtype=np.uint8))}, step=30)
run.summary["best"] = 0.99
run.finish(exit_code=code)
"""


def wandb_run(folder: Path, run_id: str = "abcd1234", code: int = 0) -> Path:
    require("wandb", find_spec("wandb") is not None, "pip install wandb")
    env = {**os.environ, "PYTHONWARNINGS": "ignore", "WANDB_MODE": "offline", "HOME": str(folder)}
    folder.mkdir(exist_ok=True)
    argv = [sys.executable, "-c", WANDB, str(folder), run_id, str(code)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=100, cwd=folder)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "wandb").glob(f"offline-run-*-{run_id}/*.wandb")
    return path


def bring(server: Running, source: Path, format: str = "") -> tuple[Summary, dict[str, Run], dict[str, dict[str, Series]]]:
    """The import's summary; and all runs of the server, with their histories, by name."""
    done = bridges.run_import(server.client, format, str(source))
    ids = [
        each.experiment_id
        for each in server.client.call(experiments.SEARCH, experiments.Search(100, view_type="ALL")).experiments
    ]
    found = server.client.call(runs.SEARCH, runs.Search(ids)).runs
    whole = server.client.call(imports.EXPORT, imports.Export([run.info.run_id for run in found])).runs if found else []
    series = {run.fields.info.run_name: {each.key: each for each in run.series} for run in whole}
    return done, {run.info.run_name: run for run in found}, series


def test_an_offline_run_of_wandb(own_server: Running, tmp_path: Path) -> None:
    wandb_run(tmp_path / "w")
    assert bridges.guess(str(tmp_path / "w" / "wandb")) == "wandb" == bridges.guess(str(tmp_path / "w"))
    done, found, series = bring(own_server, tmp_path / "w" / "wandb")
    run, own = found["run one"], series["run one"]
    assert (done.imported, done.failed) == (1, []) and run.info.status == "FINISHED" and run.info.end_time is not None
    assert {each.key: each.value for each in run.data.params} == {
        "lr": "0.1",
        "net.depth": "3",
        "net.act": "relu",
        "sizes": "[1, 2]",
    }
    tags = {each.key: each.value for each in run.data.tags}
    assert (tags["wandb.tags"], tags["mlflow.note.content"], tags["wandb.group"], tags["wandb.run_id"]) == (
        "a, b",
        "my notes",
        "g",
        "abcd1234",
    )
    assert own["loss"].values == [1 / (step + 1) for step in range(20)] and own["loss"].steps == list(range(20))
    assert own["val/acc _top 1_"].values[-1] == 0.95 and own["nested.x"].steps == list(range(20)) and own["best"].values == [0.99]
    assert math.isnan(own["nan"].values[0]) and own["inf"].values == [-math.inf] and own["nan"].steps == [30]
    assert set(own) == {"loss", "val/acc _top 1_", "nested.x", "best", "nan", "inf"}
    assert "1 histogram, 1 image-file, 1 texts" in done.notes[0]
    assert any(path.startswith("media/images/img") for path in own_server.client.tree(run.info.artifact_uri))
    assert (
        own_server.client.call(experiments.GET_BY_NAME, experiments.GetByName("proj")).experiment.experiment_id
        == run.info.experiment_id
    )
    again, _, same = bring(own_server, tmp_path / "w" / "wandb")
    assert (again.imported, again.skipped, again.completed) == (0, 1, 0) and str(same) == str(series)


def test_a_resumed_run_of_wandb_is_one_and_a_failed_one_failed(own_server: Running, tmp_path: Path) -> None:
    wandb_run(tmp_path / "a", code=1)
    done, found, _ = bring(own_server, tmp_path / "a")
    assert done.imported == 1 and found["run one"].info.status == "FAILED"
    wandb_run(tmp_path / "b", run_id="abcd1234")
    for path in (tmp_path / "a" / "wandb").glob("offline-run-*"):
        path.rename(tmp_path / "b" / "wandb" / f"{path.name}-before")
    done, found, series = bring(own_server, tmp_path / "b")
    assert (done.imported, done.completed, len(found)) == (0, 1, 1)
    assert len(series["run one"]["loss"].steps) == 40  # Both wrote steps 0 to 19, at different times.


def test_damage_in_a_log_of_wandb_costs_what_it_hit(own_server: Running, tmp_path: Path) -> None:
    path = wandb_run(tmp_path / "w")
    whole = path.read_bytes()
    places: list[int] = []
    payloads = list(leveldb.records(whole, places.append))
    assert not places and max(map(len, payloads)) > 3 * 32768  # One goes over several blocks.
    for cut in range(0, len(whole), 997):
        assert (
            list(leveldb.records(whole[:cut], places.append))
            == payloads[: len(list(leveldb.records(whole[:cut], lambda at: None)))]
        )
    place = whole.index(b"0.14285714285714285") + 3  # In a step of the history.
    path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
    done, found, series = bring(own_server, path)
    missing = set(range(20)) - set(series["run one"]["loss"].steps)
    assert len(missing) <= 1 and "is damaged at" in done.notes[0] and found["run one"].info.status == "FINISHED"


def test_event_files_of_tensorboard(own_server: Running, tmp_path: Path) -> None:
    require(
        "tensorboard", find_spec("tensorboard") is not None and find_spec("torch") is not None, "pip install tensorboard torch"
    )
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

    logs = tmp_path / "logs"
    with SummaryWriter(logs / "one") as writer:
        for step in range(100):
            writer.add_scalar("loss/train (x)", 1 / (step + 1), step, walltime=1_700_000_000.125 + step)
        writer.add_scalar("new", 2.5, 1, new_style=True)
        writer.add_scalar("double", 1 / 3, 1, new_style=True, double_precision=True)
        writer.add_histogram("h", np.arange(10), 1)
        writer.add_text("t", "hello", 1)
        writer.add_image("i", np.zeros((3, 4, 4)), 1)
        writer.add_hparams({"lr": 0.1, "batch": 32, "act": "relu"}, {"hp/acc": 0.5}, run_name="hp")
    assert bridges.guess(str(logs)) == "tensorboard"
    done, found, series = bring(own_server, logs)
    assert (done.imported, done.failed) == (2, []) and set(found) == {"one", "one/hp"}
    own = series["one"]
    assert [round(value, 6) for value in own["loss/train _x_"].values] == [round(1 / (step + 1), 6) for step in range(100)]
    assert own["loss/train _x_"].timestamps[:2] == [1_700_000_000_125, 1_700_000_001_125] and own["new"].values == [2.5]
    assert own["double"].values[0] == pytest.approx(1 / 3, abs=1e-15 if own["double"].values[0] == 1 / 3 else 1e-7)
    assert {each.key: each.value for each in found["one/hp"].data.params} == {"lr": "0.1", "batch": "32", "act": "relu"}
    assert found["one/hp"].info.status == "FINISHED" and found["one"].info.status == "RUNNING"  # It was written just now.
    assert "1 histograms, 1 images, 1 text" in done.notes[-1]
    logs.rename(tmp_path / "moved")
    again, _, same = bring(own_server, tmp_path / "moved")
    assert (again.imported, again.skipped) == (0, 2) and str(same) == str(series)
    with SummaryWriter(tmp_path / "moved" / "one") as writer:
        writer.add_scalar("loss/train (x)", 0.0, 100)
    more, _, _ = bring(own_server, tmp_path / "moved")
    assert (more.completed, more.skipped) == (1, 1)


def test_damage_in_an_event_file_costs_what_it_hit(own_server: Running, tmp_path: Path) -> None:
    require("tensorboard", find_spec("tensorboard") is not None, "pip install tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary as Values
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path / "run"))
    for step in range(50):
        writer.add_event(Event(step=step, wall_time=step, summary=Values(value=[Values.Value(tag="loss", simple_value=step)])))
    writer.close()
    (path,) = (tmp_path / "run").iterdir()
    whole = path.read_bytes()
    places: list[int] = []
    payloads = list(tfrecord.records(whole, places.append))
    assert len(payloads) == 51 and not places
    for cut in range(0, len(whole), 7):
        found = list(tfrecord.records(whole[:cut], places.append))
        assert found == payloads[: len(found)] and not places
    middle = whole.index(payloads[20])
    path.write_bytes(whole[: middle + 3] + bytes([whole[middle + 3] ^ 1]) + whole[middle + 4 : -5])
    done, _, series = bring(own_server, tmp_path / "run")
    assert series["run"]["loss"].steps == [step for step in range(49) if step != 19] and "is damaged at 1 places" in done.notes[0]


@pytest.mark.parametrize("format", ["wandb", "tensorboard"])
def test_what_is_no_log_gets_a_sentence(own_server: Running, tmp_path: Path, format: str) -> None:
    from noria.errors import NoriaError

    (tmp_path / "run-x.wandb").write_bytes(b":W&B nonsense")
    (tmp_path / "events.out.tfevents.1.x").write_bytes(b"nonsense, and more of it")
    if format == "tensorboard":
        done, _, _ = bring(own_server, tmp_path, format)
        assert done.imported == 0 and len(done.notes) == 2 and "no event that can be read" in done.notes[1]
        return
    with pytest.raises(NoriaError) as caught:
        bridges.run_import(own_server.client, format, str(tmp_path))
    assert "holds no run of W&B" in caught.value.message
