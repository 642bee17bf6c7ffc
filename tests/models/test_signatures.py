"""Signatures: inferred and written as MLflow does, read by both, and held to when somebody predicts."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import require

pytest.importorskip("pandas")

import pandas as pd

from noria import models
from noria.errors import Invalid
from noria.models import mlmodel, schema
from noria.models.columns import Table
from noria.models.enforce import enforce, parameters
from noria.models.infer import infer_signature

FRAME = pd.DataFrame({
    "long": np.array([1, 2], "int64"), "integer": np.array([1, 2], "int32"), "small": np.array([1, 2], "uint8"), "float": np.array([1, 2], "float32"),
    "double": [0.5, 1.5], "gap": [0.5, None], "text": ["a", "b"], "text with a gap": ["a", None], "yes": [True, False], "bytes": [b"a", b"b"],
    "day": pd.to_datetime(["2020-01-01", "2021-01-01"]), "list": [[1, 2], [3]], "lists": [[["a"]], [["b"], []]],
    "object": [{"a": 1, "b": "x"}, {"a": 2}]})  # fmt: skip
DATA: dict[str, Any] = {
    "array": np.zeros((3, 4), "float32"), "vector": np.zeros(3), "texts": np.array(["a", "bcd"]), "integers": np.zeros((2, 2, 2), "int16"),
    "arrays": {"ids": np.zeros((2, 8), "int64"), "mask": np.zeros((2, 8), "bool")}, "frame": FRAME, "counted": pd.DataFrame([[1.0, 2.0]]),
    "series": pd.Series([1.0, 2.0], name="x"), "list": ["a", "b"], "numbers": [1, 2], "text": "a", "number": 1.5,
    "dict": {"a": "x", "b": [1, 2], "c": {"d": 1.0}}, "records": [{"a": 1, "b": "x"}, {"a": 2}], "gaps": [{"a": None}, {"a": "x"}],
    "nested": [{"a": [{"b": 1}, {"b": 2, "c": "x"}]}], "empty": [], "times": [dt.datetime(2020, 1, 1)],
}  # fmt: skip
PARAMS: dict[str, Any] = {"k": 3, "p": 0.5, "s": "x", "yes": True, "list": [1, 2], "texts": ["a"], "object": {"a": 1}}


def theirs() -> Any:
    require("mlflow", bool(pytest.importorskip("mlflow")), "pip install mlflow")
    import mlflow.models

    return mlflow.models


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DATA)
def test_what_is_inferred_is_what_mlflow_infers(name: str) -> None:
    mlflow = theirs()
    ours, known = infer_signature(DATA[name], np.zeros(2), PARAMS), mlflow.infer_signature(DATA[name], np.zeros(2), PARAMS)
    assert mlflow.ModelSignature.from_dict(ours.record()) == known
    assert schema.read(known.to_dict()) == schema.read(ours.record()) == ours or name in ("nested", "frame", "records")
    assert mlflow.ModelSignature.from_dict(schema.read(known.to_dict()).record()) == known


@pytest.mark.parametrize("name", DATA)
def test_a_signature_comes_back_from_the_file(name: str) -> None:
    signature = infer_signature(DATA[name], params=PARAMS)
    model = mlmodel.MLModel({"f": {}}, signature)
    assert mlmodel.loads(mlmodel.dumps(model)).signature == signature
    assert all(schema.shown(spec) for spec in (*signature.inputs, *signature.params))


def columns(*specs: schema.ColSpec) -> schema.Signature:
    return schema.Signature(specs)


TWO = columns(schema.ColSpec("double", "x"), schema.ColSpec("string", "word", required=False))


def test_columns_are_put_in_order_and_others_dropped() -> None:
    frame = pd.DataFrame({"more": [1, 2], "word": ["a", "b"], "x": np.array([1, 2], "int32")}, index=[7, 9])
    found = enforce(frame, TWO)
    assert list(found.columns) == ["x", "word"] and found["x"].dtype == "float64" and list(found.index) == [7, 9]
    assert list(enforce(frame[["x"]], TWO).columns) == ["x"]
    assert enforce(Table(("x",), [[1]]), TWO)["x"].tolist() == [1.0]
    assert enforce({"x": np.array([1.0, 2.0])}, TWO)["x"].tolist() == [1.0, 2.0]
    assert enforce({"x": 1.0, "word": "a"}, TWO)["word"].tolist() == ["a"]
    assert enforce(np.array([[1.0], [2.0]]), columns(schema.ColSpec("double", "x")))["x"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        ("double", ["a"], "this model takes double"),
        ("long", [1.5], "this model takes long"),
        ("long", [1.0, None], "It has gaps, which integers cannot have"),
        ("integer", [2**40], "this model takes integer"),
        ("boolean", [1], "this model takes boolean"),
        ("string", [1.0], "this model takes string"),
        ("datetime", ["never"], "cannot be read as datetime"),
    ],
)
def test_a_column_of_another_type_is_refused(kind: str, values: list[Any], says: str) -> None:
    with pytest.raises(Invalid, match=f"column x .*{says}|{says}"):
        enforce(pd.DataFrame({"x": values}), columns(schema.ColSpec(kind, "x")))


@pytest.mark.parametrize(
    ("kind", "values", "dtype"),
    [("double", [1, 2], "float64"), ("float", [0.5], "float32"), ("integer", [1], "int32"), ("datetime", ["2020-01-01"], "datetime64[ns]"),
     ("binary", ["aGk="], "object"), ("boolean", [True], "bool")],
)  # fmt: skip
def test_what_json_brings_becomes_the_type_of_the_column(kind: str, values: list[Any], dtype: str) -> None:
    found = enforce(Table(("x",), [[each] for each in values]), columns(schema.ColSpec(kind, "x")))["x"]
    assert str(found.dtype) == dtype or (dtype == "object" and found.tolist() == [b"hi"])


def test_lists_and_objects_in_columns() -> None:
    signature = infer_signature(FRAME[["list", "object"]])
    good = enforce(FRAME, signature)
    assert good["list"].tolist() == [[1, 2], [3]] and good["object"].tolist()[1] == {"a": 2}
    for bad, says in (({"list": [1], "object": [{"a": 1}]}, "takes lists there"), ({"list": [["x"]], "object": [{"a": 1}]}, "takes long there"),
                      ({"list": [[1]], "object": [{"b": "x"}]}, "lacks a"), ({"list": [[1]], "object": [{"a": 1, "z": 1}]}, "has z")):  # fmt: skip
        with pytest.raises(Invalid, match=says):
            enforce(pd.DataFrame(bad), signature)


def test_missing_columns_are_named() -> None:
    with pytest.raises(Invalid, match="lacks the column x; it has y"):
        enforce(pd.DataFrame({"y": [1.0]}), TWO)
    with pytest.raises(Invalid, match="has 1 columns; this model takes 2"):
        enforce([[1.0]], columns(schema.ColSpec("double"), schema.ColSpec("double")))


@pytest.mark.parametrize(
    ("data", "dtype", "says"),
    [
        (np.zeros((2, 3)), "float32", ""),
        ([[1, 2, 3]], "float32", ""),
        (np.zeros((2, 3), "uint8"), "int64", ""),
        (np.full((2, 3), 0.5), "int64", "values would change"),
        ([[1.5, 1, 1]], "int64", "values would change"),
        (np.full((2, 3), 300), "uint8", "values would change"),
        (np.full((2, 3), 1j), "float32", "values would change"),
        (np.array([["a", "b", "c"]]), "float32", "not an array of numbers"),
        (np.zeros((2, 4)), "float32", r"shape \[2, 4\]; this model takes \[-1, 3\]"),
        (np.zeros(3), "float32", r"shape \[3\]; this model takes"),
    ],
)
def test_tensors_are_held_to_type_and_shape(data: Any, dtype: str, says: str) -> None:
    signature = schema.Signature((schema.TensorSpec(dtype, (-1, 3)),))
    if not says:
        assert str(enforce(data, signature).dtype) == dtype
        return
    with pytest.raises(Invalid, match=says):
        enforce(data, signature)


def test_several_tensors_come_by_name() -> None:
    signature = infer_signature(DATA["arrays"])
    found = enforce({"mask": [[True] * 8], "ids": [[1] * 8], "more": 1}, signature)
    assert list(found) == ["ids", "mask"] and found["ids"].dtype == "int64"
    with pytest.raises(Invalid, match="lacks mask"):
        enforce({"ids": [[1] * 8]}, signature)
    with pytest.raises(Invalid, match="takes arrays with names: ids, mask"):
        enforce([[1]], signature)


def test_parameters_have_defaults_and_types() -> None:
    specs = infer_signature([1], params=PARAMS).params
    assert parameters({"k": 4}, specs) == {**PARAMS, "k": 4}
    for bad in ({"k": 1.5}, {"k": "x"}, {"list": 3}, {"unknown": 1}, {"object": {"z": 1}}):
        with pytest.raises(Invalid):
            parameters(bad, specs)
    with pytest.raises(Invalid, match="Parameters are a list"):
        parameters([1], specs)


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["array", "arrays", "frame", "counted", "list", "dict", "records", "text"])
def test_examples_are_kept_as_mlflow_keeps_them(name: str, tmp_path: Path) -> None:
    from noria.models import example

    utils = pytest.importorskip("mlflow.models.utils")
    known = utils._Example(DATA[name])
    assert example.write(DATA[name], tmp_path) == known.info
    assert json.loads((tmp_path / example.FILE).read_text()) == plain(known.json_input_example)
    assert json.loads((tmp_path / example.REQUEST).read_text()) == plain(known.json_serving_input)


def plain(text: str) -> Any:
    """MLflow writes NaN for the gaps of a table, which is no JSON; we write null."""
    return json.loads(text, parse_constant=lambda _: None)


def test_the_card_says_what_the_model_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import noria

    pytest.importorskip("skops")
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(FRAME[["double"]], [0.0, 1.0])
    with noria.start_run() as run:
        noria.log(loss=0.25, step=1)
        noria.log(loss=0.125, step=2)
        noria.log_dataset(None, "rows", "training", digest="abc")
        kept: list[str] = []
        monkeypatch.setattr(
            "noria.client.fluent.log_artifacts", lambda folder, _: kept.append((folder / "README.md").read_text())
        )
        noria.log_model(model, input_example=FRAME[["double"]], card="A line, for <people>.", metadata={"test_accuracy": 0.5})
    text = kept[0]
    for words in ("A line, for <people>.", run.run_id, "| loss | 0.125 |", "| data | rows abc training |", "| test_accuracy | 0.5 |",
                  "sklearn.linear_model", "in: `double: double`", f'noria.models.load("runs:/{run.run_id}/model")', "bytes |"):  # fmt: skip
        assert words in text, text
    models.save(model, tmp_path / "m")
    loaded = models.load(tmp_path / "m")
    assert loaded.load_seconds > 0 and loaded.mlmodel.size > 0 and "not known" in (tmp_path / "m" / "README.md").read_text()
    assert loaded.predict(FRAME[["double"]]).shape == (2,)
