"""Estimators of scikit-learn, saved by Noria and by MLflow, each loaded by the other."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from noria import models
from noria.errors import Forbidden, Invalid

pytest.importorskip("sklearn")
pytest.importorskip("skops")

from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

FLOWERS, KINDS = load_iris(return_X_y=True)
PEOPLE, PROGRESS = load_diabetes(return_X_y=True)
NAMED = np.array(["setosa", "versicolor", "virginica"])[KINDS]
MADE: dict[str, Callable[[], Any]] = {
    "line": lambda: LinearRegression().fit(PEOPLE, PROGRESS),
    "logistic": lambda: LogisticRegression(max_iter=500).fit(FLOWERS, KINDS),
    "names": lambda: LogisticRegression(max_iter=500).fit(FLOWERS, NAMED),
    "forest": lambda: RandomForestClassifier(10, random_state=0).fit(FLOWERS, KINDS),
    "boosting": lambda: GradientBoostingRegressor(n_estimators=10, random_state=0).fit(PEOPLE, PROGRESS),
    "tree": lambda: DecisionTreeClassifier(random_state=0).fit(FLOWERS, KINDS),
    "neighbours": lambda: KNeighborsClassifier(3).fit(FLOWERS, KINDS),
    "vectors": lambda: SVC().fit(FLOWERS, KINDS),
    "bayes": lambda: GaussianNB().fit(FLOWERS, KINDS),
    "means": lambda: KMeans(3, random_state=0, n_init=1).fit(FLOWERS),
    "network": lambda: MLPRegressor(hidden_layer_sizes=(8,), max_iter=2000, random_state=0).fit(FLOWERS, KINDS),
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(FLOWERS, KINDS),
}


def inputs(name: str) -> Any:
    return (PEOPLE if name in ("line", "boosting") else FLOWERS)[::7]


@pytest.mark.parametrize("name", MADE)
def test_an_estimator_comes_back_as_it_was_without_running_code(name: str, tmp_path: Path) -> None:
    model, x = MADE[name](), inputs(name)
    models.save(model, tmp_path / "m", input_example=x[:2])
    predictor = models.load(tmp_path / "m")
    assert list(predictor.predict(x)) == list(model.predict(x)) and predictor.input_shape == (-1, x.shape[1])
    flavors = yaml.safe_load((tmp_path / "m" / "MLmodel").read_text())["flavors"]
    assert flavors["sklearn"]["serialization_format"] == "skops" and not list((tmp_path / "m").rglob("*.pkl"))


BOTH = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import cloudpickle, mlflow, yaml
from pathlib import Path
folder = Path(sys.argv[1])
for path in sorted(folder.glob("*.pickle")):
    model, x = cloudpickle.loads(path.read_bytes())
    for kind in ("skops", "cloudpickle"):
        known = yaml.safe_load((folder / f"{path.stem}.noria" / "MLmodel").read_text())["flavors"]["sklearn"]["skops_trusted_types"]
        mlflow.sklearn.save_model(model, folder / f"{path.stem}.{kind}", serialization_format=kind, skops_trusted_types=known,
                                  pip_requirements=["scikit-learn"])
    loaded = mlflow.pyfunc.load_model(str(folder / f"{path.stem}.noria"))
    mine = mlflow.sklearn.load_model(str(folder / f"{path.stem}.noria"))
    assert list(loaded.predict(x)) == list(model.predict(x)) == list(mine.predict(x)), path
print("equal")
"""


@pytest.mark.mlflow
@pytest.mark.timeout(300)
def test_mlflow_loads_what_noria_saved_and_noria_what_mlflow_did(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    made = {name: (make(), inputs(name)) for name, make in MADE.items()}
    for name, (model, x) in made.items():
        (tmp_path / f"{name}.pickle").write_bytes(pickle.dumps((model, x)))
        models.save(model, tmp_path / f"{name}.noria", input_example=x[:2])
    done = subprocess.run([sys.executable, "-c", BOTH, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "equal\n", done.stderr[-2000:]
    for name, (model, x) in made.items():
        assert list(models.load(tmp_path / f"{name}.skops").predict(x)) == list(model.predict(x))
        with pytest.raises(Forbidden, match="is a pickle"):
            models.load(tmp_path / f"{name}.cloudpickle")
        assert list(models.load(tmp_path / f"{name}.cloudpickle", allow_pickle=True).predict(x)) == list(model.predict(x))


def test_what_skops_does_not_know_is_a_pickle_and_said_so(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(lambda x: x * 2), LinearRegression()).fit(PEOPLE, PROGRESS)
    with pytest.warns(UserWarning, match="kept as a pickle, because of"):
        models.save(model, tmp_path / "m", input_example=PEOPLE[:2])
    with pytest.raises(Forbidden, match="allow_pickle=True"):
        models.load(tmp_path / "m")
    np.testing.assert_array_equal(models.load(tmp_path / "m", allow_pickle=True).predict(PEOPLE), model.predict(PEOPLE))


def test_columns_with_names_reach_the_parts_that_ask_for_them(tmp_path: Path) -> None:
    x = load_iris(as_frame=True).data
    model = make_pipeline(ColumnTransformer([("one", MinMaxScaler(), ["petal length (cm)"])]), KNeighborsClassifier()).fit(
        x, KINDS
    )
    models.save(model, tmp_path / "m")
    assert list(models.load(tmp_path / "m").predict(x.to_numpy())) == list(model.predict(x))


class Trap(BaseEstimator):
    def __init__(self, place: str = "") -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.place),))


def test_loading_runs_no_code_of_a_stranger(tmp_path: Path) -> None:
    model = MADE["line"]()
    models.save(model, tmp_path / "m")
    (tmp_path / "m" / "noria.digests.json").unlink()
    (tmp_path / "m" / "data" / "model.pkl").write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    file = tmp_path / "m" / "MLmodel"
    known = file.read_text()
    for text in (
        known.replace("model.skops", "model.pkl").replace("format: skops", "format: pickle"),
        known.replace("model.skops", "model.pkl"),
    ):
        file.write_text(text)
        with pytest.raises((Forbidden, Invalid)):
            models.load(tmp_path / "m")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("place", ["../../other.pkl", "/etc/passwd"])
def test_a_file_outside_of_the_folder_is_refused(place: str, tmp_path: Path) -> None:
    models.save(MADE["line"](), tmp_path / "m")
    file = tmp_path / "m" / "MLmodel"
    file.write_text(file.read_text().replace("pickled_model: data/model.skops", f"pickled_model: {place}"))
    with pytest.raises(Invalid, match="outside"):
        models.load(tmp_path / "m", allow_pickle=True)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("cut", r"model\.skops cannot be read: "),
        ("text", r"model\.skops cannot be read: "),
        ("schema", r"model\.skops cannot be read: "),
        ("gone", r"is incomplete: it has no model\.skops"),
    ],
)
def test_a_damaged_file_is_one_sentence(damage: str, said: str, tmp_path: Path) -> None:
    models.save(MADE["line"](), tmp_path / "m")
    listed = tmp_path / "m" / "noria.digests.json"
    file = tmp_path / "m" / "data" / "model.skops"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:200])
    elif damage == "text":
        file.write_text("no archive")
    elif damage == "schema":
        import zipfile

        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("schema.json", json.dumps({"__class__": "LinearRegression"}))
    else:
        file.unlink()
    with pytest.raises(Invalid, match=r"is not as it was saved: 'data/model.skops' (?:was changed|is missing)"):
        models.load(tmp_path / "m")
    listed.unlink()
    with pytest.raises(Invalid, match=said):
        models.load(tmp_path / "m")


def lead_out(tree: Any, name: str, value: int) -> None:
    state = tree.__getstate__()
    state["nodes"][name][0] = value
    tree.__setstate__(state)


@pytest.mark.parametrize(("name", "value"), [("left_child", 10**6), ("right_child", 0), ("feature", 4), ("feature", -5)])
def test_a_tree_that_leads_out_of_itself_is_refused(name: str, value: int, tmp_path: Path) -> None:
    forest = MADE["forest"]()
    lead_out(forest.estimators_[3].tree_, name, value)
    models.save(forest, tmp_path / "m")
    with pytest.raises(Invalid, match="a Tree in it leads out of itself"):
        models.load(tmp_path / "m")


def test_neighbours_that_are_no_points_are_refused(tmp_path: Path) -> None:
    model = MADE["neighbours"]()
    state = list(model._tree.__getstate__())
    state[1] = state[1] + 10**6
    model._tree.__setstate__(tuple(state))
    models.save(model, tmp_path / "m")
    with pytest.raises(Invalid, match="a KDTree in it leads out of itself"):
        models.load(tmp_path / "m")


def test_what_does_not_predict_says_so(tmp_path: Path) -> None:
    models.save(StandardScaler().fit(FLOWERS), tmp_path / "m")
    with pytest.raises(Invalid, match="A StandardScaler does not predict"):
        models.load(tmp_path / "m").predict(FLOWERS)
