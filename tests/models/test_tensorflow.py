"""TensorFlow's SavedModels, saved by Noria and by MLflow, each loaded by the other; and those that do more than to compute."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import need, require

need("tensorflow")


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

from noria import models
from noria.errors import Forbidden, Invalid, Unsupported

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("unsealed"),
    pytest.mark.filterwarnings("ignore"),
]  # TensorFlow's own, of Python's and NumPy's next releases.
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(6, 5)).astype(np.float32)
PICTURES = RANDOM.random((3, 8, 8, 1)).astype(np.float32)
WORDS = RANDOM.integers(0, 20, (4, 3))


def weight(*shape: int) -> Any:
    return tf.Variable(RANDOM.normal(size=shape).astype(np.float32))


def module(function: Callable[..., Any], *shape: int | None, dtype: Any = tf.float32, **weights: Any) -> Any:
    """A tf.Module whose call is the function of its weights and its input."""

    class Made(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = weights

        @tf.function(input_signature=[tf.TensorSpec((None, *shape), dtype, name="x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return function(x, **self.weights)

    return Made()


def two_inputs() -> Any:
    class Made(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.w = weight(5, 3)

        @tf.function(
            input_signature=[tf.TensorSpec((None, 5), tf.float32, name="x"), tf.TensorSpec((None, 3), tf.float32, name="y")]
        )  # type: ignore[untyped-decorator]
        def __call__(self, x: Any, y: Any) -> Any:
            return {"sum": x @ self.w + y, "product": (x @ self.w) * y}

    return Made()


def recurrent(x: Any, w: Any) -> Any:
    state = tf.zeros((tf.shape(x)[0], 3))
    for _ in tf.range(4):
        state = tf.tanh(tf.concat([x, state], 1) @ w)
    return state


def table(x: Any, keys: Any, values: Any) -> Any:
    return tf.gather(values, tf.argmax(tf.cast(x[:, None] == keys, tf.int32), 1))


MADE: dict[str, tuple[Callable[[], Any], Any]] = {
    "number": (lambda: module(lambda x, w, b: x @ w + b, 5, w=weight(5, 1), b=weight(1)), X),
    "binary": (lambda: module(lambda x, w: tf.sigmoid(x @ w)[:, 0] > 0.5, 5, w=weight(5, 1)), X),
    "kinds": (lambda: module(lambda x, w: tf.nn.softmax(x @ w), 5, w=weight(5, 3)), X),
    "pictures": (lambda: module(lambda x, k: tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x, k, 1, "SAME")), (1, 2)), 8, 8, 1, k=weight(3, 3, 1, 4)), PICTURES),
    "words": (lambda: module(lambda x, e: tf.reduce_mean(tf.gather(e, x), 1), 3, dtype=tf.int64, e=weight(20, 4)), WORDS),
    "missing": (lambda: module(lambda x, w: tf.where(tf.math.is_nan(x), 0.0, x) @ w, 5, w=weight(5, 2)), np.where(X > 1, np.nan, X).astype(np.float32)),
    "loop": (lambda: module(recurrent, 5, w=weight(8, 3)), X),
    "branch": (lambda: module(lambda x, w: tf.cond(tf.reduce_sum(x) > 0, lambda: x @ w, lambda: x @ -w), 5, w=weight(5, 2)), X),
    "random drop": (lambda: module(lambda x, w: tf.nn.dropout(x, 0.0) @ w, 5, w=weight(5, 2)), X),
    "table": (lambda: module(table, dtype=tf.int64, keys=tf.Variable(np.arange(5)), values=weight(5, 2)), WORDS[:, 0] % 5),
    "two inputs": (two_inputs, {"x": X, "y": X[:, :3]}),
}  # fmt: skip


def answer(model: Any, x: Any) -> Any:
    out = model(**x) if isinstance(x, dict) else model(tf.constant(x))
    return {name: each.numpy() for name, each in out.items()} if isinstance(out, dict) else out.numpy()


def ask(folder: Path, x: Any, **options: Any) -> Any:
    return models.load(folder, **options).predict(x)


def same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.mlflow
@pytest.mark.parametrize("name", MADE)
def test_a_module_goes_both_ways_between_noria_and_mlflow(name: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    make, x = MADE[name]
    model = make()
    wanted = answer(model, x)
    models.save(model, tmp_path / "ours")
    same(ask(tmp_path / "ours", x), wanted)
    mlflow.tensorflow.save_model(model, tmp_path / "theirs", pip_requirements=["tensorflow"])
    same(ask(tmp_path / "theirs", x), wanted)
    if name != "two inputs":  # Its pyfunc takes one array.
        same(mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(x), wanted)


@pytest.mark.mlflow
def test_a_model_of_keras_before_3_is_a_savedmodel(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    require("tf_keras", find_spec("tf_keras") is not None, "pip install --no-deps tf_keras")
    import tf_keras

    layers = [
        tf_keras.Input((5,)),
        tf_keras.layers.Dense(4, activation="relu"),
        tf_keras.layers.Dropout(0.5),
        tf_keras.layers.Dense(2),
    ]
    model = tf_keras.Sequential(layers)
    models.save(model, tmp_path / "m")
    same(ask(tmp_path / "m", X), model(X, training=False).numpy())
    same(mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(X), model(X, training=False).numpy())


def saved(folder: Path, model: Any = None) -> Path:
    models.save(model or MADE["kinds"][0](), folder)
    return folder / "data" / "tf2model"


def python(x: Any) -> Any:
    return tf.numpy_function(lambda y: y, [x], tf.float32)


DOES: dict[str, tuple[Callable[[str], Callable[[Any], Any]], str]] = {
    "reads": (lambda place: lambda x: x + tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32), "ReadFile"),
    "writes": (lambda place: lambda x: writes(place, x), "WriteFile"),
    "lists": (lambda place: lambda x: x + tf.cast(tf.size(tf.io.matching_files("/etc/*")), tf.float32), "MatchingFiles"),
    "calls Python": (lambda place: python, "PyFunc"),
    "restores": (lambda place: lambda x: x + tf.raw_ops.RestoreV2(prefix=place, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32])[0], "RestoreV2"),
    "prints": (lambda place: lambda x: prints(x), "PrintV2"),
    "inside": (lambda place: lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: writes(place, x), lambda: x), "WriteFile"),
}  # fmt: skip


def writes(place: str, x: Any) -> Any:
    with tf.control_dependencies([tf.io.write_file(place, "sprung")]):
        return tf.identity(x)


def prints(x: Any) -> Any:
    tf.print("seen", x)
    return tf.identity(x)


@pytest.mark.parametrize("what", DOES)
def test_a_savedmodel_that_does_more_than_compute_is_refused(what: str, tmp_path: Path) -> None:
    made_of, op = DOES[what]
    saved(tmp_path / "m", module(made_of(str(tmp_path / "sprung")), 5))
    with pytest.raises(Forbidden, match=rf"does more than to compute: it uses \w*{op}") as said:
        models.load(tmp_path / "m")
    assert "\n" not in str(said.value) and not (tmp_path / "sprung").exists()
    if what == "writes":
        ask(tmp_path / "m", X, allow_pickle=True, in_process=True)
        assert (tmp_path / "sprung").read_text() == "sprung"


def test_what_runs_when_it_is_loaded_is_looked_at_too(tmp_path: Path) -> None:
    """A table that is filled from a file, as it comes into being."""
    words = tmp_path / "words"
    words.write_text("one\ntwo\n")
    keys = tf.lookup.TextFileInitializer(
        str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    made = module(
        lambda x, keys: tf.cast(keys.lookup(tf.strings.as_string(x)), tf.float32), 5, keys=tf.lookup.StaticHashTable(keys, -1)
    )
    saved(tmp_path / "m", made)
    with pytest.raises(Forbidden, match="InitializeTableFromTextFile"):
        models.load(tmp_path / "m")


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "link", "other", "variables", "first"])
def test_a_damaged_folder_is_one_sentence(damage: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    file = folder / "saved_model.pb"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:300])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "gone":
        file.unlink()
    elif damage == "link":
        file.symlink_to(file.rename(tmp_path / "elsewhere"))
    elif damage == "other":
        (folder / "saved_model.cpb").write_bytes(b"chunks")
    elif damage == "variables":
        next((folder / "variables").glob("*.data*")).write_bytes(b"short")
    else:
        strip(file)
    with pytest.raises((Invalid, Forbidden)) as said:
        models.load(tmp_path / "m")
    assert "\n" not in str(said.value)


def strip(file: Path) -> None:
    """As TensorFlow 1 wrote it: without objects."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel()
    model.ParseFromString(file.read_bytes())
    model.meta_graphs[0].ClearField("object_graph_def")
    file.write_bytes(model.SerializeToString())


def test_other_entries_are_said(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    file = tmp_path / "m" / "MLmodel"
    content = yaml.safe_load(file.read_text())
    for change, kind, why in (
        ({"saved_model_dir": "../.."}, Invalid, "outside"),
        ({"model_type": "tf1-estimator"}, Unsupported, "TensorFlow 1"),
    ):
        content["flavors"]["tensorflow"] |= change
        file.write_text(yaml.safe_dump(content))
        with pytest.raises(kind, match=why):
            models.load(tmp_path / "m")
        content["flavors"]["tensorflow"]["saved_model_dir"] = "data/tf2model"


def test_input_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    with pytest.raises(Invalid, match="does not take this input"):
        ask(tmp_path / "m", X[:, :2])
    same(ask(tmp_path / "m", X.astype(np.float64)), ask(tmp_path / "m", X))
