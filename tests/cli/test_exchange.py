"""`noria runs import` and `export`, as people type them; what comes along is tested with the bridges."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ..conftest import require

OLD = """
import mlflow
mlflow.set_experiment("from-a-folder")
for number in range(3):
    with mlflow.start_run(run_name=f"old-{number}"):
        mlflow.log_param("lr", number)
        mlflow.log_metric("loss", 1.0 / (number + 1), step=7)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder mlruns with three runs."""
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    kept = tmp_path / "mlruns"
    env = {**os.environ, "MLFLOW_TRACKING_URI": kept.as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", OLD], env=env, check=True, capture_output=True)
    return kept


@pytest.mark.mlflow
def test_a_folder_is_imported_once(noria: Any, folder: Path) -> None:
    first = noria("runs", "import", str(folder))
    assert first.stdout == "" and first.stderr.endswith("noria: runs: 3 imported\n") and "\x1b" not in first.stderr
    again = json.loads(noria("runs", "import", str(folder), "--json").stdout)
    assert (again["imported"], again["skipped"], again["failed"]) == (0, 3, [])
    out = noria("runs", "list", "-x", "from-a-folder", "--filter", "metrics.loss < 0.4").stdout.splitlines()
    assert len(out) == 2 and "old-2" in out[1] and "0.3333" in out[1]


@pytest.mark.mlflow
def test_a_table_of_runs_goes_to_stdout_or_into_a_file(noria: Any, folder: Path, tmp_path: Path) -> None:
    noria("runs", "import", str(folder))
    out = noria("runs", "export", "--filter", "params.lr = '1'").stdout
    (row,) = csv.DictReader(out.splitlines())
    assert (row["params.lr"], float(row["metrics.loss"])) == ("1", 0.5)
    noria("runs", "export", str(tmp_path / "runs.csv"), "--experiment", "from-a-folder")
    assert len(list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))) == 3


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("import", "/nowhere"), "There is nothing at '/nowhere'."),
        (("import", "/dev/null", "--format", "foo"), "There is no 'foo' among importers."),
        (("export", "somewhere"), "'somewhere' does not say what to write. Give --format csv, parquet, mlflow or databricks."),
        (("export", "--format", "foo"), "There is no 'foo' among exporters."),
    ],
)
def test_what_cannot_be_brought_or_taken(ask: Any, argv: tuple[str, ...], says: str) -> None:
    done = ask("runs", *argv, check=False)
    assert done.returncode == 1 and says in done.stderr and done.stdout == ""
