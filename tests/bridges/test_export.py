"""Taking runs out: tables that say what the server says, and an MLflow that has what Noria has, once."""

from __future__ import annotations

import csv
import io
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from noria import bridges
from noria.errors import NoriaError
from noria.types import Metric, Param, Tag
from noria.wire import experiments, runs
from tests.conftest import Running, require


def fill(server: Running, count: int = 3) -> list[str]:
    """Some runs in the experiment "e", whose n-th has n points of `loss`."""
    call = server.client.call
    experiment = call(experiments.CREATE, experiments.Create("e")).experiment_id
    found = []
    for number in range(count):
        run_id = call(runs.CREATE, runs.Create(experiment, "ada", f"run {number}", 1_700_000_000_000 + number)).run.info.run_id
        points = [Metric("loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(number)]
        batch = runs.LogBatch(run_id, [*points, Metric("nan", "NaN", 7, -1)], [Param("n", str(number))], [Tag("a/b", 'c "d"\n')])
        call(runs.LOG_BATCH, batch)
        call(runs.UPDATE, runs.Update(run_id, status="FINISHED", end_time=1_700_000_009_000))
        found.append(run_id)
    return found


def test_csv_has_a_row_for_each_run_and_each_point(
    own_server: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = fill(own_server)
    done = bridges.run_export(own_server.client, "csv", str(tmp_path / "out"), experiments=["e"])
    assert (done.imported, done.failed) == (3, [])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "runs.csv").read_text())))
    assert [row["run_id"] for row in rows] == ids and [row["params.n"] for row in rows] == ["0", "1", "2"]
    assert [row["metrics.loss"] for row in rows] == ["", "1.0", "0.5"] and {row["metrics.nan"] for row in rows} == {"nan"}
    assert (
        rows[1]["start_time"] == "2023-11-14T22:13:20.001Z" and rows[0]["tags.a/b"] == 'c "d"\n' and rows[0]["experiment"] == "e"
    )
    points = list(csv.reader(io.StringIO((tmp_path / "out" / "metrics.csv").read_text())))
    assert points[0] == ["run_id", "key", "step", "timestamp", "value"] and len(points) == 1 + 3 + 3
    assert [ids[2], "loss", "1", "1700000000001", "0.5"] in points
    bridges.run_export(own_server.client, "csv", str(tmp_path / "out"), experiments=["e"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.csv", "runs.csv"]
    assert len(list(csv.DictReader(io.StringIO((tmp_path / "out" / "runs.csv").read_text())))) == 3
    capsys.readouterr()
    bridges.run_export(own_server.client, "csv", "-", filter="params.n = '2'")
    (only,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert only["run_id"] == ids[2]


def test_parquet_has_the_same(own_server: Running, tmp_path: Path) -> None:
    require("pyarrow", find_spec("pyarrow") is not None, "pip install pyarrow")
    from pyarrow import parquet

    ids = fill(own_server)
    bridges.run_export(own_server.client, "parquet", str(tmp_path / "x.parquet"))
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table["run_id"].to_pylist() == ids and table["metrics.loss"].to_pylist() == [None, 1.0, 0.5]
    assert table["start_time"].to_pylist()[0].isoformat() == "2023-11-14T22:13:20+00:00"
    points = parquet.read_table(tmp_path / "x.metrics.parquet").to_pylist()
    assert len(points) == 6 and math.isnan(points[0]["value"]) and points[-2]["value"] == 0.5 and points[-2]["key"] == "loss"


def test_wrong_targets_get_a_sentence(own_server: Running, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for format, target, options, says in (
        ("csv", f"{tmp_path}/file/below", {}, "cannot be made a folder"),
        ("parquet", "-", {}, "cannot be written to stdout"),
        ("nosuch", "x", {}, "There is no 'nosuch' among exporters. Use one of: csv, databricks, mlflow, parquet"),
        ("csv", f"{tmp_path}/o", {"experiments": ["nosuch"]}, "There is no experiment 'nosuch'"),
        ("csv", f"{tmp_path}/o", {"filter": "metrics.loss <"}, "at column 15"),
    ):
        with pytest.raises(NoriaError) as caught:
            bridges.run_export(own_server.client, format, target, **options)  # type: ignore[arg-type]
        assert says in caught.value.message
    assert not (tmp_path / "o").exists() or not list((tmp_path / "o").iterdir())


def by_name(trees: dict[str, Any]) -> dict[str, Any]:
    """A snapshot without what MLflow gives anew: ids, and our marks on its runs."""

    def tags(found: dict[str, str]) -> dict[str, str]:
        return {key: value for key, value in found.items() if not key.startswith("noria.") and key != "mlflow.user"}

    result: dict[str, Any] = {}
    for name, tree in trees.items():
        active = {own: run for own, run in tree["runs"].items() if run["info"][5] == "active"}
        if active:
            result[name] = {
                "runs": {
                    run["info"][0]: {**run, "tags": tags(run["tags"]) | ({"mlflow.parentRunId": ""} if "mlflow.parentRunId" in run["tags"] else {}),
                                     "info": (run["info"][0], *run["info"][2:]), "outputs": [step for _, step in run["outputs"]]}
                    for run in active.values()
                },
                "models": {
                    model["info"][0]: {**model, "tags": tags(model["tags"]), "info": model["info"][:2], "metrics": []}
                    for model in tree["models"].values()
                },
            }  # fmt: skip
    return result


@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", ["new.db", "mlruns"])
def test_an_mlflow_that_runs_were_exported_to_has_them_once(
    own_server: Running, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    from tests.bridges.snapshot import registry, same, snapshot

    for name, value in (
        ("MLFLOW_TRACKING_TOKEN", own_server.token),
        ("MLFLOW_ALLOW_FILE_STORE", "true"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    script = Path(__file__).parent / "scripts" / "source.py"
    subprocess.run(
        [sys.executable, "-W", "ignore", str(script), own_server.url, "3"], check=True, capture_output=True, cwd=tmp_path
    )
    own = snapshot(own_server.url)
    where = str(tmp_path / target)

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        bridges.run_export(own_server.client, "mlflow", where, progress=stop)
    first = bridges.run_export(own_server.client, "mlflow", where)
    assert (first.imported, first.skipped, first.failed) == (3, 2, []), first
    uri = f"sqlite:///{where}" if target == "new.db" else Path(where).as_uri()
    there = snapshot(uri)
    same(by_name(there), by_name(own))
    mine, theirs = registry(own_server.url), registry(uri)
    assert set(theirs["digits"]["versions"]) == set(mine["digits"]["versions"]) == {"1", "3"}
    assert theirs["digits"]["aliases"] == mine["digits"]["aliases"] and theirs["digits"]["versions"]["1"][0] == "Production"
    again = bridges.run_export(own_server.client, "mlflow", where)
    assert (again.imported, again.skipped, again.completed, again.failed) == (0, 5, 0, []), again
    same(snapshot(uri), there)
    assert registry(uri) == theirs
