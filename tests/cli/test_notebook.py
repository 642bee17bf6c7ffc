"""What is asked from Python: MLflow's names, MLflow's columns, and what is said for names that are not there."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import noria as package
from noria.errors import Invalid, NotFound, Unsupported

from ..conftest import require

try:
    import mlflow
except ImportError:
    mlflow = None


@pytest.fixture
def found(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_SERVER", server.url)
    monkeypatch.setenv("NORIA_TOKEN", server.token)


@pytest.fixture
def three(make: Any, found: None) -> Any:
    """Two runs of different keys, and one that goes on."""
    one, two = make.run("one", params={"lr": "0.1"}, tags={"kind": "a"}), make.run("two", params={"depth": "3"})
    make.log(one, 1, loss=0.5)
    make.log(two, 1, loss=0.25, accuracy=math.nan)
    make.end(one)
    make.end(two, "FAILED")
    make.run("three")
    return make


def test_a_frame_is_the_one_that_mlflow_makes(server: Any, three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    require("mlflow", mlflow is not None, "pip install mlflow")
    pandas = pytest.importorskip("pandas")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.token)
    for options in (
        {"experiment_names": [three.experiment]},
        {"experiment_ids": [three.experiment_id], "filter_string": "metrics.loss < 0.3", "order_by": ["metrics.loss ASC"]},
        {"experiment_names": [three.experiment], "max_results": 1},
        {"experiment_names": [three.experiment], "filter_string": "params.lr = 'nothing'"},
        {"experiment_names": [three.experiment], "run_view_type": 2},
    ):
        theirs, ours = mlflow.search_runs(**options), package.search_runs(**options)
        columns = sorted(theirs.columns)
        assert sorted(ours.columns) == columns and list(ours.columns)[:6] == list(theirs.columns)[:6]
        if len(theirs):  # A column of no time at all is of no zone there.
            alike = not theirs.end_time.isna().all()
            pandas.testing.assert_frame_equal(ours[columns], theirs[columns], check_dtype=alike)
        assert len(ours) == len(theirs)


def test_a_list_of_runs_and_one_run(three: Any) -> None:
    runs = package.search_runs(experiment_names=[three.experiment], order_by=["attributes.run_name ASC"], output_format="list")
    assert [run.info.run_name for run in runs] == ["one", "three", "two"]
    one = package.get_run(runs[0].info.run_id)
    assert (
        one == runs[0] and one.data.metrics == {"loss": 0.5} and one.data.params["lr"] == "0.1" and one.data.tags["kind"] == "a"
    )
    with pytest.raises(NotFound):
        package.get_run("nowhere")


def test_more_runs_than_a_page_holds(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from noria.cli import notebook

    monkeypatch.setattr(notebook, "_PAGE", 2)
    ids = [run.info.run_id for run in package.search_runs(experiment_names=[three.experiment], output_format="list")]
    assert len(ids) == len(set(ids)) == 3


def test_wrong_questions(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="column 15"):
        package.search_runs(experiment_names=[three.experiment], filter_string="metrics.loss <")
    with pytest.raises(Invalid, match="Only one"):
        package.search_runs(experiment_names=["a"], experiment_ids=["0"])
    with pytest.raises(Invalid, match="'pandas' or 'list'"):
        package.search_runs(output_format="json")  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="run_view_type 7"):
        package.search_runs(run_view_type=7)
    with pytest.warns(UserWarning, match="There is no experiment 'nowhere'"):
        assert len(package.search_runs(experiment_names=["nowhere"], output_format="list")) == 0
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(Unsupported, match="pip install pandas"):
        package.search_runs(experiment_names=[three.experiment])


PASTED = """
import sys
import noria as mlflow
mlflow.set_experiment("pasted")
with mlflow.start_run(run_name="first") as run:
    mlflow.log_param("learning_rate", 0.01)
    mlflow.log_metric("accuracy", 0.92)
    mlflow.log_text("hello", "notes/a.txt")
    mlflow.log_dict({"a": 1}, "config.json")
    mlflow.log_artifact(sys.argv[1], "model")
found = mlflow.search_runs()
assert list(found.run_id) == [run.info.run_id] and found["params.learning_rate"][0] == "0.01", found
version = mlflow.register_model(f"runs:/{run.info.run_id}/model", "my-model")
assert (version.name, version.version) == ("my-model", "1")
"""


def test_pasted_code_with_another_import(noria: Any, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    argv = [sys.executable, "-c", PASTED, str(tmp_path / "MLmodel")]
    done = subprocess.run(argv, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = noria("runs", "show", "first").stdout
    assert "experiment pasted" in out and "notes/a.txt" in out and "config.json" in out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("noria.log_metrc('a', 1)", "has no attribute 'log_metrc'. Did you mean noria.log_metric?"),
        ("noria.autolog()", "Write mlflow itself"),
        ("noria.set_tracking_uri('http://localhost:5000')", "NORIA_SERVER names another server"),
        ("noria.models", "Write `import noria.models` first."),
        ("noria.zzz", "help(noria) lists what there is."),
        ("noria.log_model(1, name='m')", "it is called as noria.log_model(model, artifact_path='model', *, input_example=None"),
        ("noria.log_model(1, registered_model_name='m')", "noria.register_model('runs:/RUN/model', 'NAME')"),
        ("noria.search_runs(experiment='x')", "unexpected keyword argument 'experiment': it is called as noria.search_runs("),
        ("noria.set_experiment('')", "An experiment needs a name."),
        ("noria.log_dict({'a': {1}}, 'a.json')", "not one for JSON"),
        ("noria.log_figure(1, 'a.png')", "A int is no figure of matplotlib or plotly."),
    ],
)
def test_lines_that_never_worked_say_what_to_write(line: str, says: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", f"import noria\n{line}"], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 1 and says in done.stderr.splitlines()[-1]


def test_a_figure_is_kept(noria: Any) -> None:
    pytest.importorskip("matplotlib")
    code = "import noria, matplotlib.figure as f\nnoria.start_run(run_name='drawn')\nnoria.log_figure(f.Figure(), 'plots/a.png')"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "MPLBACKEND": "agg"})
    assert "plots/a.png" in noria("runs", "show", "drawn").stdout


def test_tools_that_look_at_the_package_are_told_nothing() -> None:
    code = "import noria\ntry: noria._repr_html_\nexcept AttributeError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "module 'noria' has no attribute '_repr_html_'\n"
