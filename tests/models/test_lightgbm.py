"""Models of LightGBM, saved by Noria and by MLflow, each loaded by the other; and files that lead astray."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from noria import models
from noria.errors import Forbidden, Invalid, Unsupported
from tests.conftest import need

need("lightgbm", "sklearn", "skops")


import lightgbm as lgb

from noria.models.sound import boosters
from tests.models.boosted import BINARY, COUNTS, GROUPS, HOLES, KINDS, NUMBER, PRICE, TABLE, X, equal

pytestmark = pytest.mark.usefixtures("unsealed")

FEW: dict[str, Any] = {"n_estimators": 5, "num_leaves": 6, "verbose": -1, "n_jobs": 1, "min_child_samples": 5}
QUIET: dict[str, Any] = {"verbose": -1, "num_threads": 1, "num_leaves": 6, "min_data_in_leaf": 5}


def trained(y: Any, x: Any = X, **params: Any) -> tuple[Any, Any]:
    return lgb.train(QUIET | params, lgb.Dataset(x, y), 5), x


MADE: dict[str, Callable[[], tuple[Any, Any]]] = {
    "binary": lambda: (lgb.LGBMClassifier(**FEW).fit(X, BINARY), X),
    "kinds": lambda: (lgb.LGBMClassifier(**FEW).fit(X, KINDS), X),
    "names": lambda: (lgb.LGBMClassifier(**FEW).fit(X, np.array(["low", "middle", "high"])[KINDS]), X),
    "number": lambda: (lgb.LGBMRegressor(**FEW).fit(X, NUMBER), X),
    "missing": lambda: trained(BINARY, HOLES, objective="binary"),
    "categories": lambda: trained(PRICE, TABLE, min_data_per_group=1, cat_smooth=1),
    "ranks": lambda: (lgb.LGBMRanker(**FEW).fit(X, np.clip(COUNTS, 0, 4), group=GROUPS), X),
    "counts": lambda: trained(COUNTS, objective="poisson"),
    "lines in leaves": lambda: trained(NUMBER, linear_tree=True),
    "dart": lambda: trained(NUMBER, boosting="dart", drop_rate=0.5),
    "random forest": lambda: trained(
        KINDS, objective="multiclass", num_class=3, boosting="rf", bagging_freq=1, bagging_fraction=0.6
    ),
}


def ask(folder: Path, x: Any, **options: Any) -> Any:
    return models.load(folder, **options).predict(x)


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")  # mlflow's own
@pytest.mark.parametrize("name", MADE)
def test_a_model_goes_both_ways_between_noria_and_mlflow(name: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    model, x = MADE[name]()
    wanted = model.predict(x)
    models.save(model, tmp_path / "ours")
    assert equal(ask(tmp_path / "ours", x), wanted)
    assert equal(mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(x), wanted)
    assert type(mlflow.lightgbm.load_model(str(tmp_path / "ours"))) is type(model)
    mlflow.lightgbm.save_model(model, tmp_path / "theirs", pip_requirements=["lightgbm"],
                               skops_trusted_types=["lightgbm.sklearn.LGBMRanker"])  # fmt: skip
    assert equal(ask(tmp_path / "theirs", x), wanted)


def saved(folder: Path, name: str = "missing") -> Path:
    models.save(MADE[name]()[0], folder)
    return folder / "data" / ("model.lgb" if name == "missing" else "model.skops")


ASTRAY = {
    "a child far away": (r"left_child=\S+", "left_child=1000000"),
    "a leaf far away": (r"right_child=\S+", "right_child=-1000000"),
    "a way round": (r"right_child=\S+", "right_child=0"),
    "a feature far away": (r"split_feature=\S+", "split_feature=5"),
    "a number that is none": (r"threshold=\S+", "threshold=0x10"),
    "a number with a comma": (r"leaf_weight=(\S+)", r"leaf_weight=\1,5"),
    "leaves that are not there": (r"num_leaves=\d+", "num_leaves=100"),
    "categories that are none": (r"decision_type=\S+", "decision_type=1"),
    "twice": (r"shrinkage=", "shrinkage=1\nshrinkage="),
    "a tree in a tree": (r"leaf_count=", "Tree=7\nleaf_count="),
    "another size": (r"tree_sizes=\d+", "tree_sizes=99999"),
    "fewer features": (r"max_feature_idx=4", "max_feature_idx=2"),
    "a parameter of another form": (r"\[num_leaves: ", "[num_leaves; "),
    "more classes": (r"num_tree_per_iteration=1", "num_tree_per_iteration=4"),
    "no trees": (r"max_feature_idx", "maximum"),
}


@pytest.mark.parametrize("what", ASTRAY)
def test_a_tree_that_leads_out_of_itself_is_refused(what: str, tmp_path: Path) -> None:
    file = saved(tmp_path / "m")
    text = re.sub(*ASTRAY[what], file.read_text(), count=1)
    assert text != file.read_text()
    file.write_text(text)
    with pytest.raises(Invalid, match="cannot be read") as said:
        models.load(tmp_path / "m")
    assert "\n" not in str(said.value)


def test_a_tree_in_an_estimator_is_looked_at_too(tmp_path: Path) -> None:
    file = saved(tmp_path / "m", "kinds")
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    schema = content["schema.json"].decode()
    content["schema.json"] = re.sub(r"left_child=[-\d]+", "left_child=9", schema, count=1).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, piece in content.items():
            archive.writestr(name, piece)
    with pytest.raises(Invalid, match="cannot be right"):
        models.load(tmp_path / "m")


@pytest.mark.parametrize("name", ["missing", "kinds"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
def test_a_file_that_is_cut_off_is_refused(name: str, share: float, tmp_path: Path) -> None:
    file = saved(tmp_path / "m", name)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(Invalid, match="cannot be read"):
        models.load(tmp_path / "m")


def test_a_pickle_needs_trust_and_a_stranger_in_skops_too(tmp_path: Path) -> None:
    import cloudpickle
    import skops.io

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    model, x = MADE["kinds"]()
    file = saved(tmp_path / "m", "kinds")
    skops.io.dump({"model": model, "other": np.random.MT19937}, file)
    with pytest.raises(Forbidden, match="MT19937"):
        models.load(tmp_path / "m")
    change(tmp_path / "m", serialization_format="cloudpickle")
    file.write_bytes(cloudpickle.dumps(Trap()))
    with pytest.raises(Forbidden, match="is a pickle"):
        models.load(tmp_path / "m")
    assert not (tmp_path / "sprung").exists()
    file.write_bytes(cloudpickle.dumps(model))
    assert equal(ask(tmp_path / "m", x, allow_pickle=True, in_process=True), model.predict(x))


@pytest.mark.parametrize("place", ["../../other.lgb", "/etc/passwd"])
def test_a_file_outside_of_the_folder_is_refused(place: str, tmp_path: Path) -> None:
    saved(tmp_path / "m")
    change(tmp_path / "m", data=place)
    with pytest.raises(Invalid, match="outside"):
        models.load(tmp_path / "m")


def change(folder: Path, **entry: Any) -> None:
    content = yaml.safe_load((folder / "MLmodel").read_text())
    content["flavors"]["lightgbm"] |= entry
    (folder / "MLmodel").write_text(yaml.safe_dump(content))


def test_something_of_ones_own_and_input_that_does_not_fit_are_one_sentence(tmp_path: Path) -> None:
    class Own(lgb.LGBMRegressor):  # type: ignore[misc]
        pass

    with pytest.raises(Unsupported, match="Save its booster_ instead"):
        models.save(Own(**FEW).fit(X, NUMBER), tmp_path / "own")
    saved(tmp_path / "m")
    with pytest.raises(Invalid, match="does not take this input"):
        ask(tmp_path / "m", X[:, :3])


def test_what_lightgbm_writes_is_what_is_looked_for() -> None:
    for make in MADE.values():
        model, _ = make()
        boosters.lightgbm((model if isinstance(model, lgb.Booster) else model.booster_).model_to_string())
