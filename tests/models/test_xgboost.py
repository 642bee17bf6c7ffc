"""Models of XGBoost, saved by Noria and by MLflow, each loaded by the other; and files that lead astray."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from noria import models
from noria.errors import Invalid, Unsupported
from tests.conftest import need

need("xgboost", "sklearn")


import xgboost as xgb

from noria.models.sound import boosters, ubjson
from tests.models.boosted import BINARY, COUNTS, GROUPS, HOLES, KINDS, NUMBER, PRICE, TABLE, TWO, X, equal

pytestmark = pytest.mark.usefixtures("unsealed")

FEW: dict[str, Any] = {"n_estimators": 5, "max_depth": 3, "n_jobs": 1}
MADE: dict[str, Callable[[], tuple[Any, Any]]] = {
    "binary": lambda: (xgb.XGBClassifier(**FEW).fit(X, BINARY), X),
    "kinds": lambda: (xgb.XGBClassifier(**FEW).fit(X, KINDS), X),
    "number": lambda: (xgb.XGBRegressor(**FEW).fit(X, NUMBER), X),
    "two numbers": lambda: (xgb.XGBRegressor(**FEW, multi_strategy="multi_output_tree").fit(X, TWO), X),
    "missing": lambda: (xgb.XGBClassifier(**FEW).fit(HOLES, BINARY), HOLES),
    "categories": lambda: (xgb.XGBRegressor(**FEW, enable_categorical=True).fit(TABLE, PRICE), TABLE),
    "ranks": lambda: (xgb.XGBRanker(**FEW).fit(X, np.clip(COUNTS, 0, 4), group=GROUPS), X),
    "counts": lambda: (xgb.train({"objective": "count:poisson"}, xgb.DMatrix(X, COUNTS), 5), X),
    "lines": lambda: (xgb.train({"booster": "gblinear"}, xgb.DMatrix(X, NUMBER), 5), X),
    "dart": lambda: (xgb.train({"booster": "dart", "rate_drop": 0.5, "seed": 1}, xgb.DMatrix(X, NUMBER), 5), X),
    "random forest": lambda: (xgb.XGBRFClassifier(**FEW).fit(X, KINDS), X),
}


def answer(model: Any, x: Any) -> Any:
    return model.predict(xgb.DMatrix(x, enable_categorical=True) if isinstance(model, xgb.Booster) else x)


def ask(folder: Path, x: Any) -> Any:
    return models.load(folder).predict(x)


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")  # mlflow's own
@pytest.mark.parametrize("name", MADE)
def test_a_model_goes_both_ways_between_noria_and_mlflow(name: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    model, x = MADE[name]()
    wanted = answer(model, x)
    models.save(model, tmp_path / "ours")
    assert equal(ask(tmp_path / "ours", x), wanted)
    assert equal(mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(x), wanted)
    assert type(mlflow.xgboost.load_model(str(tmp_path / "ours"))) is type(model)
    for kind in ("ubj", "json"):
        mlflow.xgboost.save_model(model, tmp_path / kind, model_format=kind, pip_requirements=["xgboost"])
        assert equal(ask(tmp_path / kind, x), wanted)


def saved(folder: Path, name: str = "number") -> Path:
    models.save(MADE[name]()[0], folder)
    return folder / "data" / "model.ubj"


def as_json(folder: Path, name: str = "number") -> tuple[Path, Any]:
    """A saved model whose file is JSON, and that as a value."""
    saved(folder, name).unlink()
    file = folder / "data" / "model.json"
    MADE[name]()[0].save_model(file)
    described = folder / "MLmodel"
    described.write_text(described.read_text().replace("model.ubj", "model.json"))
    return file, json.loads(file.read_text())


def tree(model: Any) -> Any:
    return model["learner"]["gradient_booster"]["model"]["trees"][1]


def lead_out(name: str, place: int, value: Any) -> Callable[[Any], None]:
    return lambda model: tree(model)[name].__setitem__(place, value)


ASTRAY: dict[str, Callable[[Any], Any]] = {
    "a child far away": lead_out("left_children", 0, 10**6),
    "a way round": lead_out("right_children", 2, 0),
    "two parents": lead_out("right_children", 0, 1),
    "a feature far away": lead_out("split_indices", 0, 5),
    "another parent": lead_out("parents", 1, 2),
    "a text for a number": lead_out("left_children", 0, "1"),
    "a list cut short": lambda model: tree(model)["split_conditions"].pop(),
    "categories that are none": lead_out("split_type", 0, 1),
    "another tree's number": lambda model: tree(model).update(id=3),
    "more trees than there are": lambda model: model["learner"]["gradient_booster"]["model"]["trees"].pop(),
    "no features": lambda model: model["learner"]["learner_model_param"].update(num_feature="0"),
    "for whom": lambda model: model["learner"]["gradient_booster"]["model"]["tree_info"].__setitem__(0, 7),
    "no learner": lambda model: model.pop("learner"),
}


@pytest.mark.parametrize("what", ASTRAY)
def test_a_tree_that_leads_out_of_itself_is_refused(what: str, tmp_path: Path) -> None:
    file, model = as_json(tmp_path / "m")
    ask(tmp_path / "m", X)
    ASTRAY[what](model)
    file.write_text(json.dumps(model))
    with pytest.raises(Invalid, match="cannot be read") as said:
        models.load(tmp_path / "m")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused(share: float, tmp_path: Path) -> None:
    file = saved(tmp_path / "m")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(Invalid, match="cannot be read"):
        models.load(tmp_path / "m")


def test_a_changed_byte_is_refused_or_answers(tmp_path: Path) -> None:
    """XGBoost itself ends the process at about one in a hundred of these."""
    raw, random, refused = saved(tmp_path / "m", "categories").read_bytes(), np.random.default_rng(3), 0
    for _ in range(60):
        changed = bytearray(raw)
        changed[random.integers(len(raw))] = random.integers(256)
        try:
            boosters.xgboost(bytes(changed))
        except ValueError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    "text",
    [b"{", b"{i\x01a[$l#L\x7f\xff\xff\xff\xff\xff\xff\xff", b"[" * 1000, b"{L\xff", b"[$T#L\x00\x00\x00\x7f\xff\xff\xff\xff"],
)
def test_ubjson_that_promises_more_than_it_has_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|nested too deep|counts more|without a count"):
        ubjson.loads(text)


@pytest.mark.parametrize("place", ["../../other.ubj", "/etc/passwd"])
def test_a_file_outside_of_the_folder_is_refused(place: str, tmp_path: Path) -> None:
    saved(tmp_path / "m")
    change(tmp_path / "m", data=place)
    with pytest.raises(Invalid, match="outside"):
        models.load(tmp_path / "m")


def test_a_class_that_is_none_of_xgboosts_is_not_imported(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    change(tmp_path / "m", model_class="os.system")
    with pytest.raises(Unsupported, match=r"a os\.system, which is none of XGBoost's"):
        models.load(tmp_path / "m")


def change(folder: Path, **entry: Any) -> None:
    content = yaml.safe_load((folder / "MLmodel").read_text())
    content["flavors"]["xgboost"] |= entry
    (folder / "MLmodel").write_text(yaml.safe_dump(content))


def test_a_model_that_was_never_fitted_and_a_class_of_ones_own_are_one_sentence(tmp_path: Path) -> None:
    class Own(xgb.XGBRegressor):  # type: ignore[misc]
        pass

    with pytest.raises(Invalid, match="Fit it first"):
        models.save(xgb.XGBClassifier(), tmp_path / "m")
    with pytest.raises(Unsupported, match="get_booster"):
        models.save(Own(**FEW).fit(X, NUMBER), tmp_path / "m")


def test_input_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    with pytest.raises(Invalid, match="does not take this input"):
        ask(tmp_path / "m", X[:, :3])
