"""Models in ONNX, saved by Noria and by MLflow, each loaded by the other; and files that lead astray."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from noria import models
from noria.errors import Invalid, Unsupported
from tests.conftest import need

need("onnx", "onnxruntime")


import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.usefixtures("unsealed")

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(7, 5)).astype(np.float32)
PICTURES = RANDOM.random((3, 1, 8, 8)).astype(np.float32)
HOLES = np.where(RANDOM.random(X.shape) < 0.3, np.nan, X).astype(np.float32)


def weight(name: str, *shape: int, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(RANDOM.normal(size=shape).astype(dtype), name)


def constant(name: str, value: Any) -> Any:
    return numpy_helper.from_array(np.asarray(value), name)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def value(name: str, dtype: Any, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["n", *shape])


def model(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]) -> Any:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def dense(*more: Any, width: int = 5, out: int = 3) -> Any:
    last = more[-1].output[0] if more else "h"
    return model([node("Gemm", "x w b", "h"), *more], [value("x", np.float32, width)],
                 [value(last, np.float32, out)], [weight("w", width, out), weight("b", out)])  # fmt: skip


def two_inputs() -> Any:
    nodes = [node("MatMul", "a w", "h"), node("Add", "h b", "y")]
    return model(nodes, [value("a", np.float32, 5), value("b", np.float32, 3)], [value("y", np.float32, 3)], [weight("w", 5, 3)])


def two_outputs() -> Any:
    nodes = [node("Gemm", "x w b", "h"), node("Softmax", "h", "p"), node("ArgMax", "h", "kind", axis=1, keepdims=0)]
    outputs = [value("p", np.float32, 3), value("kind", np.int64)]
    return model(nodes, [value("x", np.float32, 5)], outputs, [weight("w", 5, 3), weight("b", 3)])


def convolution() -> Any:
    nodes = [node("Conv", "x k", "c"), node("Relu", "c", "r"), node("GlobalAveragePool", "r", "g"), node("Flatten", "g", "y")]
    return model(nodes, [value("x", np.float32, 1, 8, 8)], [value("y", np.float32, 4)], [weight("k", 4, 1, 3, 3)])


def words() -> Any:
    nodes = [node("Gather", "e ids", "h"), node("ReduceMean", "h axis", "y", keepdims=0)]
    return model(nodes, [value("ids", np.int64, 4)], [value("y", np.float32, 6)], [weight("e", 20, 6), constant("axis", [1])])


def missing() -> Any:
    nodes = [node("IsNaN", "x", "gone"), node("Where", "gone zero x", "whole"), node("Gemm", "whole w b", "y")]
    return model(nodes, [value("x", np.float32, 5)], [value("y", np.float32, 3)],
                 [constant("zero", np.float32(0)), weight("w", 5, 3), weight("b", 3)])  # fmt: skip


def memory() -> Any:
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r"], ["", "y"], hidden_size=3),
        node("Squeeze", "y axis", "z"),
    ]
    return model(nodes, [value("x", np.float32, 4, 2)], [value("z", np.float32, 3)],
                 [weight("w", 1, 12, 2), weight("r", 1, 12, 3), constant("axis", [0])])  # fmt: skip


def branch() -> Any:
    then = helper.make_graph([node("Mul", "x w", "a")], "then", [], [value("a", np.float32, 5)], [weight("w", 5)])
    other = helper.make_graph([node("Neg", "x", "b")], "other", [], [value("b", np.float32, 5)])
    nodes = [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c"),
             node("If", "c", "y", then_branch=then, else_branch=other)]  # fmt: skip
    return model(nodes, [value("x", np.float32, 5)], [value("y", np.float32, 5)], [constant("zero", np.float32(0))])


def texts() -> Any:
    label = node("LabelEncoder", "kind", "y", keys_int64s=[0, 1, 2], values_strings=["low", "middle", "high"])
    label.domain = "ai.onnx.ml"
    nodes = [node("Gemm", "x w b", "h"), node("ArgMax", "h", "kind", axis=1, keepdims=0), label]
    inputs, weights = [value("x", np.float32, 5)], [weight("w", 5, 3), weight("b", 3)]
    return model(nodes, inputs, [helper.make_tensor_value_info("y", TensorProto.STRING, ["n"])], weights)


MADE: dict[str, tuple[Callable[[], Any], Any]] = {
    "number": (lambda: dense(out=1), X),
    "binary": (lambda: dense(node("Sigmoid", "h", "y"), out=1), X),
    "kinds": (lambda: dense(node("Softmax", "h", "y")), X),
    "texts": (texts, X),
    "two inputs": (two_inputs, {"a": X, "b": X[:, :3]}),
    "two outputs": (two_outputs, X),
    "convolution": (convolution, PICTURES),
    "words": (words, RANDOM.integers(0, 20, (5, 4))),
    "missing": (missing, HOLES),
    "memory": (memory, RANDOM.normal(size=(3, 4, 2)).astype(np.float32)),
    "branch": (branch, X),
    "large": (lambda: dense(out=2000), X),
}


def answer(content: Any, x: Any) -> dict[str, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, x if isinstance(x, dict) else {session.get_inputs()[0].name: x}), strict=True))


def ask(folder: Path, x: Any) -> Any:
    return models.load(folder).predict(x)


def equal(found: Any, wanted: dict[str, Any]) -> bool:
    found = found if isinstance(found, dict) else {next(iter(wanted)): found}
    return found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")  # mlflow's own
@pytest.mark.parametrize("name", MADE)
def test_a_model_goes_both_ways_between_noria_and_mlflow(name: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    make, x = MADE[name]
    made = make()
    wanted = answer(made, x)
    models.save(made, tmp_path / "ours")
    assert equal(ask(tmp_path / "ours", x), wanted)
    assert equal(mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(x), wanted)
    assert mlflow.onnx.load_model(str(tmp_path / "ours")) == made
    mlflow.onnx.save_model(deepcopy(made), tmp_path / "theirs", pip_requirements=["onnx"])
    assert (name == "large") == bool(list((tmp_path / "theirs").glob("*.data")))
    assert equal(ask(tmp_path / "theirs", x), wanted)


def test_tables_and_other_numbers_are_taken_as_the_model_wants_them(tmp_path: Path) -> None:
    made = two_inputs()
    models.save(dense(), tmp_path / "one")
    models.save(made, tmp_path / "two")
    columns = list("abcde")
    whole = ask(tmp_path / "one", X)
    assert np.array_equal(ask(tmp_path / "one", pd.DataFrame(X, columns=columns)), whole)
    assert np.array_equal(ask(tmp_path / "one", X.astype(np.float64)), whole)
    with pytest.raises(Invalid, match="has 2 inputs"):
        ask(tmp_path / "two", X)
    with pytest.raises(Invalid, match="input b is missing"):
        ask(tmp_path / "two", {"a": X})
    with pytest.raises(Invalid, match="does not take this input"):
        ask(tmp_path / "one", X[:, :2])


def outside(folder: Path, place: str, **said: int) -> None:
    """Weights of a saved model are said to be elsewhere."""
    made = dense(out=2000)
    onnx.save_model(made, folder / "model.onnx", save_as_external_data=True, location="weights")
    made = onnx.load_model(folder / "model.onnx", load_external_data=False)
    for entry in made.graph.initializer[0].external_data:
        entry.value = str({"location": place, **said}.get(entry.key, entry.value))
    (folder / "model.onnx").write_bytes(made.SerializeToString())


@pytest.mark.parametrize("place", ["../../secret", "/etc/passwd", "link"])
def test_weights_outside_of_the_folder_are_refused(place: str, tmp_path: Path) -> None:
    models.save(dense(), tmp_path / "m")
    (tmp_path / "secret").write_bytes(bytes(10**5))
    if place == "link":
        (tmp_path / "m" / "link").symlink_to(tmp_path / "secret")
    outside(tmp_path / "m", place)
    with pytest.raises(Invalid, match=r"outside|is a link"):
        models.load(tmp_path / "m")


def test_weights_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    models.save(dense(), tmp_path / "m")
    outside(tmp_path / "m", "gone")
    with pytest.raises(Invalid, match="it has no gone with its weights"):
        models.load(tmp_path / "m")
    outside(tmp_path / "m", "weights", offset=10**9)
    with pytest.raises(Invalid, match="goes past its end"):
        models.load(tmp_path / "m")


@pytest.mark.parametrize("place", ["../other.onnx", "/etc/passwd"])
def test_a_file_outside_of_the_folder_is_refused(place: str, tmp_path: Path) -> None:
    models.save(dense(), tmp_path / "m")
    content = yaml.safe_load((tmp_path / "m" / "MLmodel").read_text())
    content["flavors"]["onnx"]["data"] = place
    (tmp_path / "m" / "MLmodel").write_text(yaml.safe_dump(content))
    with pytest.raises(Invalid, match="outside"):
        models.load(tmp_path / "m")


def unknown(made: Any) -> None:
    made.graph.node[0].op_type = "Unheard"


def short(made: Any) -> None:
    made.graph.initializer[0].raw_data = made.graph.initializer[0].raw_data[:-4]


def huge(made: Any) -> None:
    made.graph.initializer[0].dims[0] = 2**40


@pytest.mark.parametrize("damage", [unknown, short, huge])
def test_a_damaged_graph_is_one_sentence(damage: Callable[[Any], None], tmp_path: Path) -> None:
    models.save(dense(), tmp_path / "m")
    made = onnx.load_model(tmp_path / "m" / "model.onnx")
    damage(made)
    (tmp_path / "m" / "model.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(Invalid, match="cannot be") as said:
        models.load(tmp_path / "m")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_a_file_that_is_cut_off_is_refused(share: float, tmp_path: Path) -> None:
    models.save(dense(), tmp_path / "m")
    file = tmp_path / "m" / "model.onnx"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(Invalid, match="cannot be"):
        models.load(tmp_path / "m")


def test_operations_from_elsewhere_are_refused_before_they_are_looked_for(tmp_path: Path) -> None:
    made = dense()
    made.opset_import.append(helper.make_opsetid("own.operations", 1))
    with pytest.raises(Unsupported, match=r"operations of own\.operations"):
        models.save(made, tmp_path / "m")
    assert not (tmp_path / "m").exists()
